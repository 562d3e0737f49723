"""`/v1/messages` over Anthropic itself: what comes back is what Anthropic would have sent."""

from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import pytest

from tests.edge.api.messages import Line, line, routes
from tests.fakes.upstream import Upstream, chunk, running_upstream, says, sse
from tests.fakes.vendors.anthropic import COUNTED, SIGNATURE, AnthropicVendor

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello"}]
ASKED = {"model": "claude", "max_tokens": 100, "messages": HELLO}


@pytest.fixture
async def vendor() -> AsyncIterator[AnthropicVendor]:
    async with AnthropicVendor() as running:
        yield running


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running_upstream() as running:
        yield running


@pytest.fixture
async def api(
    vendor: AnthropicVendor, upstream: Upstream, tmp_path: Path, sqlite_url: str
) -> AsyncIterator[Line]:
    """Routes to Anthropic and to a server that signs nothing."""
    claude = {"kind": "anthropic", "base_url": vendor.base_url, "api_key": "k"}
    other = {"kind": "fireworks", "base_url": upstream.base_url("other"), "api_key": "k"}
    async with line(tmp_path, sqlite_url, routes(("claude", claude), ("other", other))) as opened:
        yield opened


@pytest.mark.behaviour(162)
async def test_what_the_sdk_says_of_itself_goes_on(api: Line, vendor: AnthropicVendor):
    """Version and betas, and no key of the caller's."""
    vendor.says("hi")
    async with api.sdk(headers={"anthropic-version": "2026-10-21"}) as sdk:
        await sdk.beta.messages.create(**ASKED, betas=["a-1", "b-2"])

    _, headers, body = vendor.requests[-1]
    assert ("2026-10-21", "a-1,b-2", "k") == (
        headers["anthropic-version"],
        headers["anthropic-beta"],
        headers["x-api-key"],
    )
    assert "authorization" not in headers
    assert ("m-1", HELLO) == (body["model"], body["messages"])


@pytest.mark.behaviour(168)
async def test_tokens_are_counted_by_who_knows(api: Line, vendor: AnthropicVendor):
    vendor.says("nothing: it is asked for a count")
    async with api.sdk() as sdk:
        raw = await sdk.messages.with_raw_response.count_tokens(model="claude", messages=HELLO)
    usage = (await api.http.get("/v1/usage")).json()

    assert COUNTED == (await raw.parse()).input_tokens
    assert "x-sluiceway-estimated" not in raw.headers
    assert "0" == usage["cost_usd"]


async def test_a_count_that_fails_is_estimated(api: Line, vendor: AnthropicVendor):
    vendor.fails(529, "overloaded_error")
    async with api.sdk() as sdk:
        raw = await sdk.messages.with_raw_response.count_tokens(model="claude", messages=HELLO)

    assert (await raw.parse()).input_tokens > 0
    assert "true" == raw.headers["x-sluiceway-estimated"]


async def test_a_count_of_nonsense_is_refused(api: Line, vendor: AnthropicVendor):
    vendor.fails(400, "invalid_request_error")
    async with api.sdk() as sdk:
        with pytest.raises(anthropic.BadRequestError):
            await sdk.messages.count_tokens(model="claude", messages=HELLO)


@pytest.mark.behaviour(169)
@pytest.mark.parametrize("stream", [False, True])
async def test_overload_stays_overload(api: Line, vendor: AnthropicVendor, stream: object):
    vendor.fails(529, "overloaded_error")
    async with api.sdk() as sdk:
        with pytest.raises(anthropic.OverloadedError) as raised:
            await sdk.messages.create(**{**ASKED, "stream": stream})

    assert (529, "overloaded_error") == (raised.value.status_code, raised.value.type)


async def test_a_conversation_may_go_to_another_provider_and_back(
    api: Line, vendor: AnthropicVendor, upstream: Upstream
):
    """Each sees only what it can take: no signature of Anthropic's there, no unsigned thought here.

    What Anthropic has signed comes back to it unchanged after the detour.
    """
    vendor.answers(
        {"type": "thinking", "thinking": "deep", "signature": SIGNATURE},
        {"type": "redacted_thinking", "data": "hidden"},
        {"type": "text", "text": "one"},
    )
    thought = chunk({"role": "assistant", "reasoning_content": "shallow"})
    said = chunk({"content": "two"})
    upstream.script("other", sse([thought, said, chunk({}, "stop"), b"data: [DONE]\n\n"]))
    vendor.says("three")
    messages: list[object] = [*HELLO]
    async with api.sdk() as sdk:
        for model in ("claude", "other", "claude"):
            async with sdk.messages.stream(
                model=model, max_tokens=100, messages=messages
            ) as stream:
                answer = await stream.get_final_message()
            messages += [answer.to_param(), *HELLO]

    assert SIGNATURE not in upstream.asked("other")[-1].body.decode()
    assert "one" in str(upstream.asked("other")[-1].json["messages"][1]["content"])
    turns = vendor.requests[-1][2]["messages"]
    assert ["thinking", "redacted_thinking", "text"] == [one["type"] for one in turns[1]["content"]]
    assert ("deep", SIGNATURE) == (
        turns[1]["content"][0]["thinking"],
        turns[1]["content"][0]["signature"],
    )
    assert [{"type": "text", "text": "two"}] == turns[3]["content"]
    assert "three" == answer.content[0].text


async def test_a_fallback_is_asked_in_its_own_words(
    vendor: AnthropicVendor, upstream: Upstream, tmp_path: Path, sqlite_url: str
):
    """A caller of Anthropic's dialect never learns that Anthropic was down."""
    claude = {"kind": "anthropic", "base_url": vendor.base_url, "api_key": "k"}
    other = {"kind": "openai_compatible", "base_url": upstream.base_url("other"), "api_key": "k"}
    config = routes(("claude", claude), ("other", other), fallbacks=["other"])
    config["routes"][1].pop("fallbacks")
    vendor.fails(529, "overloaded_error")
    upstream.script("other", says("here I am"))
    async with line(tmp_path, sqlite_url, config) as api, api.sdk() as sdk:
        raw = await sdk.messages.with_raw_response.create(**ASKED)

    assert "here I am" == (await raw.parse()).content[0].text
    assert ("other", "2") == (
        raw.headers["x-sluiceway-provider"],
        raw.headers["x-sluiceway-attempts"],
    )
