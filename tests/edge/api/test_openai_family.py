"""Unmodified clients against vendors that take OpenAI's dialect in their own way."""

import json

import openai
import pytest

from tests.edge.api.conftest import KEY
from tests.edge.api.gateways import URL, gateway, one_route, sdk
from tests.fakes.upstream import DONE, Answer, chunk, sse
from tests.fakes.vendors.openai import OpenAIVendor

HI = [{"role": "user", "content": "hi"}]
LONG = "mcp.server/" + "x" * 80
TOOL = {"type": "function", "function": {"name": LONG, "parameters": {"type": "object"}}}


@pytest.fixture
async def vendor():
    async with OpenAIVendor() as started:
        yield started


@pytest.fixture
def serving(vendor, tmp_path, sqlite_url):
    """A gateway in front of the vendor; `kind` says in whose way it speaks."""

    def serve(kind, **route):
        provider = {"kind": kind, "base_url": f"{vendor.base_url}/v1", "api_key": "sk-upstream-1"}
        return gateway(tmp_path, sqlite_url, one_route(provider, **route))

    return serve


async def texts_of(client, **asked):
    stream = await client.chat.completions.create(
        **{"model": "chat", "messages": HI, "stream": True, **asked}
    )
    return [one.choices[0].delta.content async for one in stream if one.choices]


def sent(vendor):
    return vendor.requests[-1][2]


@pytest.mark.parametrize("kind", ["openai", "groq"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_tool_with_a_long_dotted_name(serving, vendor, kind, stream):
    """It goes under a name that vendors take, and comes back, whole and streamed, as it was."""

    def calls_it(request):
        name = request.json["tools"][0]["function"]["name"]
        call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": "{}"}}
        if request.json.get("stream"):
            delta = {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **call}]}
            return sse([chunk(delta), chunk({}, "tool_calls"), DONE])
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
        return Answer(pieces=(json.dumps({**body, "choices": [choice]}).encode(),))

    vendor.script(calls_it)
    history = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c0", "type": "function", "function": {"name": LONG, "arguments": "{}"}}
        ]},
        {"role": "tool", "tool_call_id": "c0", "content": "1"},
    ]  # fmt: skip

    async with serving(kind) as http:
        asked = {"model": "chat", "messages": history, "tools": [TOOL]}
        if stream:
            async with sdk(http).chat.completions.stream(**asked) as events:
                answer = await events.get_final_completion()
        else:
            answer = await sdk(http).chat.completions.create(**asked)

    name = sent(vendor)["tools"][0]["function"]["name"]
    past = [call for m in sent(vendor)["messages"] for call in m.get("tool_calls") or ()]
    assert len(name) <= 64
    assert [name] == [call["function"]["name"] for call in past]
    assert LONG == answer.choices[0].message.tool_calls[0].function.name


@pytest.mark.behaviour(62)
async def test_what_a_vendor_lacks_is_dropped(serving, vendor):
    vendor.says("hello")

    async with serving("groq") as http:
        answer = await sdk(http).chat.completions.with_raw_response.create(
            model="chat", messages=HI, n=2, seed=3, logprobs=True
        )

    assert {"model": "m", "messages": HI, "seed": 3} == sent(vendor)
    assert "hello" == answer.parse().choices[0].message.content
    assert "n,logprobs" == answer.headers["x-sluiceway-dropped"]


@pytest.mark.behaviour(62)
async def test_what_a_vendor_lacks_is_refused_where_the_route_says_so(serving, vendor):
    async with serving("groq", unsupported="error") as http:
        with pytest.raises(openai.BadRequestError) as refused:
            await sdk(http).chat.completions.create(model="chat", messages=HI, n=2)

    assert [] == vendor.requests
    assert ("unsupported_parameter", "n") == (refused.value.code, refused.value.param)


@pytest.mark.behaviour(126)
@pytest.mark.parametrize("before", [(), ("Hi",)], ids=["first", "after content"])
async def test_a_failed_tool_call_in_a_stream_keeps_what_was_written(serving, vendor, before):
    error = {
        "message": "Failed to call a function.",
        "type": "invalid_request_error",
        "code": "tool_use_failed",
        "failed_generation": "<function=f>",
        "status_code": 400,
    }
    failed = b"event: error\ndata: " + json.dumps({"error": error}).encode() + b"\n\n"
    vendor.script(sse([*(chunk({"content": word}) for word in before), failed]))

    async with serving("groq") as http:
        with pytest.raises(openai.APIError) as raised:
            await texts_of(sdk(http))

    assert "tool_use_failed" == raised.value.code
    assert "<function=f>" == raised.value.body["failed_generation"]


@pytest.mark.behaviour(40)
async def test_azure_takes_no_files_in_a_chat(serving, vendor):
    file = {
        "type": "file",
        "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"},
    }

    async with serving("azure_openai") as http:
        with pytest.raises(openai.BadRequestError) as refused:
            await sdk(http).chat.completions.create(
                model="chat", messages=[{"role": "user", "content": [file]}]
            )

    assert [] == vendor.requests
    assert "messages[0].content[0].type" == refused.value.param


async def test_azures_own_client_names_the_model_in_the_path(serving, vendor):
    """The deployment is the model, whatever else the body says."""
    vendor.says("hello")
    vendor.thinks("hm", "there")

    async with serving("openai_compatible") as http:
        client = openai.AsyncAzureOpenAI(
            api_key=KEY,
            azure_endpoint=URL,
            azure_deployment="chat",
            api_version="2024-10-21",
            http_client=http,
            max_retries=0,
        )
        answer = await client.chat.completions.create(model="gpt-4o", messages=HI)
        texts = await texts_of(client, model="gpt-4o")
        missing = await http.post(
            "/openai/deployments/nope/chat/completions", json={"messages": HI}
        )

    assert "hello" == answer.choices[0].message.content
    assert "there" == "".join(filter(None, texts))
    assert (404, "model_not_found") == (missing.status_code, missing.json()["error"]["code"])


async def test_the_v1_surface_of_azure_is_served_too(serving, vendor):
    vendor.says("hello")

    async with serving("openai_compatible") as http:
        client = openai.AsyncOpenAI(
            api_key=KEY, base_url=f"{URL}/openai/v1", http_client=http, max_retries=0
        )
        answer = await client.chat.completions.create(model="chat", messages=HI)
        models = await client.models.list()

    assert "hello" == answer.choices[0].message.content
    assert ["chat"] == [model.id for model in models.data]


@pytest.mark.behaviour(128)
@pytest.mark.parametrize("before", [(), ("Hi",)], ids=["first", "after content"])
async def test_a_bare_error_in_a_stream_keeps_its_text(serving, vendor, before):
    """As older vLLM gives it: no `error` around it, and no choices."""
    bare = {"object": "error", "message": "CUDA out of memory", "type": "ServerError", "code": 500}
    told = b"data: " + json.dumps(bare).encode() + b"\n\n"
    vendor.script(sse([*(chunk({"content": word}) for word in before), told, DONE]))

    async with serving("vllm") as http:
        with pytest.raises(openai.APIError, match="CUDA out of memory"):
            await texts_of(sdk(http))


@pytest.mark.behaviour(129, 136)
async def test_a_status_is_no_code_for_a_context_that_is_too_long(serving, vendor):
    told = {
        "message": "This model's maximum context length is 9 tokens.",
        "type": "BadRequestError",
    }
    vendor.script(
        Answer(status=400, pieces=(json.dumps({"error": {**told, "code": 400}}).encode(),))
    )

    async with serving("vllm") as http:
        with pytest.raises(openai.BadRequestError) as refused:
            await sdk(http).chat.completions.create(model="chat", messages=HI)

    assert "context_length_exceeded" == refused.value.code


PLAIN_KEY = "a1b2c3d4e5"
"""A key without any of the prefixes by which keys are known."""
LEAKS = {"error": {"message": f"no such key: {PLAIN_KEY}", "code": "x"}}


@pytest.mark.behaviour(141)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/embeddings"])
@pytest.mark.parametrize("kind", ["groq", "openai", "ollama", "anthropic", "gemini", "cohere"])
async def test_a_key_that_a_provider_tells_is_not_told_on(
    vendor, tmp_path, sqlite_url, capfd, kind, path
):
    """Neither to the caller nor to the log, in whatever dialect, and with whatever status."""
    provider = {"kind": kind, "base_url": vendor.base_url, "api_key": PLAIN_KEY}
    told = json.dumps(LEAKS).encode()
    asked = {"model": "chat", "messages": HI, "input": "hi", "max_tokens": 5}
    answers = [
        ({}, Answer(pieces=(told,))),
        ({}, Answer(status=500, pieces=(told,))),
        ({"stream": True}, sse([b"data: " + told + b"\n\n"])),
        ({"stream": True}, sse([b"event: error\ndata: " + told + b"\n\n"])),
    ]

    async with gateway(tmp_path, sqlite_url, one_route(provider)) as http:
        for how, answer in answers:
            vendor.script(answer)
            failed = await http.post(path, json={**asked, **how})
            assert PLAIN_KEY not in failed.text
            assert failed.status_code >= 400

    assert PLAIN_KEY not in "".join(capfd.readouterr())
