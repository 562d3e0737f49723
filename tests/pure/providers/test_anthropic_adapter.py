"""Where Anthropic is called, with which headers, and what is relayed as it came."""

import json

import msgspec
import pytest

from shared.chat.usage import Usage
from shared.config.model import ProviderConfig
from shared.errors import FailureKind, UnsupportedParameter, UpstreamError
from shared.providers.exchange import HttpResponse
from shared.providers.registry import adapter_for
from shared.providers.request import InferenceRequest, RequestHead
from shared.providers.target import Target

HELLO = [{"role": "user", "content": "Hello"}]
MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
CHAT = "/v1/chat/completions"


def asked(endpoint=MESSAGES, headers=None, **fields):
    raw = json.dumps({"model": "chat", "messages": HELLO, **fields}).encode()
    return InferenceRequest(
        endpoint=endpoint,
        dialect="openai" if endpoint == CHAT else "anthropic",
        raw=raw,
        head=msgspec.json.decode(raw, type=RequestHead),
        headers=headers or {},
    )


def exchange(request, *, target=None, **config):
    provider = msgspec.convert({"kind": "anthropic", **config}, ProviderConfig)
    target = Target(provider="claude", model="claude-sonnet-4-5", **(target or {}))
    return adapter_for("anthropic").exchange(provider, "sk-ant-1", request, target)


def answered(body, status=200, **headers):
    headers = {"content-type": "application/json", **headers}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(status=status, headers=headers, body=raw)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (None, "https://api.anthropic.com/v1/messages"),
        ("https://proxy.example/anthropic", "https://proxy.example/anthropic/v1/messages"),
        ("https://proxy.example/v1/", "https://proxy.example/v1/messages"),
    ],
)
def test_addresses(base_url, url):
    """The base is what stands before `/v1/messages`, as in Anthropic's SDK."""
    config = {} if base_url is None else {"base_url": base_url}

    assert url == exchange(asked(), **config).request.url
    assert url == exchange(asked(CHAT), **config).request.url
    assert f"{url}/count_tokens" == exchange(asked(COUNT), **config).request.url


def test_a_relayed_body_keeps_all_but_its_model():
    sent = asked(max_tokens=5, metadata={"user_id": "u"}, unknown=[1.50])
    request = exchange(sent, params={"max_tokens": 9, "top_k": 3}).request

    expected = {**json.loads(sent.raw), "model": "claude-sonnet-4-5", "top_k": 3}
    assert expected == json.loads(request.body)
    assert b"1.5" in request.body


def test_counting_takes_no_params():
    request = exchange(asked(COUNT), params={"max_tokens": 9}).request

    assert {"model": "claude-sonnet-4-5", "messages": HELLO} == json.loads(request.body)


def test_other_providers_thoughts_do_not_reach_claude():
    thought = {"type": "thinking", "thinking": "x", "signature": "sluiceway:gemini::s"}
    said = {"role": "assistant", "content": [thought, {"type": "text", "text": "Hi"}]}
    request = exchange(asked(messages=[*HELLO, said, *HELLO])).request

    assert [{"type": "text", "text": "Hi"}] == json.loads(request.body)["messages"][1]["content"]


VERSION, BETA = "anthropic-version", "anthropic-beta"
CALLERS = {VERSION: "2026-10-21", BETA: "new-thing-1,new-thing-2"}


@pytest.mark.behaviour(162)
@pytest.mark.parametrize(
    ("request_", "config", "sent"),
    [
        (asked(), {}, {VERSION: "2023-06-01"}),
        (asked(headers=CALLERS), {}, CALLERS),
        (
            asked(headers=CALLERS),
            {"api_version": "2023-06-01", "headers": {"Anthropic-Beta": "ours"}},
            {VERSION: "2023-06-01", BETA: "new-thing-1,new-thing-2,ours"},
        ),
        (asked(CHAT, headers=CALLERS), {}, {VERSION: "2023-06-01"}),
        (
            asked(CHAT, messages=[{"role": "user", "content": [
                {"type": "file", "file": {"file_id": "file_1"}}
            ]}]),
            {"headers": {"anthropic-beta": "ours"}},
            {VERSION: "2023-06-01", BETA: "files-api-2025-04-14,ours"},
        ),
    ],
    ids=["plain", "the caller's", "fixed by the operator", "translated", "stored file"],
)  # fmt: skip
def test_headers(request_, config, sent):
    """The caller's go on only where the body is the caller's; the operator's come last."""
    headers = exchange(request_, **config).request.headers

    assert sent == {name: headers[name] for name in (VERSION, BETA) if name in headers}
    assert ("sk-ant-1", "identity") == (headers["x-api-key"], headers["accept-encoding"])
    assert "authorization" not in headers


def test_a_targets_headers_come_last():
    target = {"headers": {"X-Api-Key": "other"}}

    assert "other" == exchange(asked(), target=target).request.headers["x-api-key"]


def test_the_operators_bound_holds_where_the_caller_has_none():
    def bound(**fields):
        sent = exchange(asked(CHAT, **fields), params={"max_tokens": 9, "speed": "fast"})
        return json.loads(sent.request.body)

    assert (9, "fast") == (bound()["max_tokens"], bound()["speed"])
    assert 7 == bound(max_tokens=7)["max_tokens"]


def test_what_is_lost_follows_the_routes_policy():
    request = asked(CHAT, seed=1)

    assert ("seed",) == exchange(request).dropped
    with pytest.raises(UnsupportedParameter) as caught:
        exchange(request, target={"unsupported": "error"})
    assert "seed" == caught.value.param


def test_claude_has_no_vectors():
    raw = b'{"model":"chat","input":"x"}'
    head = msgspec.json.decode(raw, type=RequestHead)
    request = InferenceRequest(endpoint="/v1/embeddings", dialect="openai", raw=raw, head=head)

    with pytest.raises(UnsupportedParameter):
        exchange(request)


@pytest.mark.behaviour(36)
def test_only_plain_http_is_fetched_for_it():
    parts = [
        {"type": "image_url", "image_url": {"url": url}}
        for url in ("http://a.org/1.png", "https://a.org/2.png", "data:image/png;base64,AA==")
    ]
    request = asked(CHAT, messages=[{"role": "user", "content": parts}])
    target = Target(provider="claude", model="claude-sonnet-4-5")
    adapter = adapter_for("anthropic")

    assert ["http://a.org/1.png"] == list(adapter.fetches(request, target))
    assert [[], []] == [
        list(adapter.fetches(one, target)) for one in (asked(CHAT), asked(messages=parts))
    ]


MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "max_tokens",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "cache_creation_input_tokens": 12304, "output_tokens": 4},
}


def test_a_relayed_answer_stays_as_it_came():
    response = answered(MESSAGE)
    reply = exchange(asked()).read(response)

    assert response.body is reply.body
    assert ("claude-sonnet-4-5-20250929", "length") == (reply.model, reply.finish_reason)
    assert (12307, 12304) == (reply.usage.input_tokens, reply.usage.cache_write_tokens)


def test_counting_is_free():
    reply = exchange(asked(COUNT)).read(answered({"input_tokens": 14}))

    assert (Usage(), b'{"input_tokens": 14}') == (reply.usage, reply.body)


@pytest.mark.parametrize(
    ("endpoint", "response", "kind"),
    [
        (MESSAGES, answered(b"{"), FailureKind.MALFORMED),
        (MESSAGES, answered({"id": "x"}), FailureKind.MALFORMED),
        (MESSAGES, answered(b"<html>", **{"content-type": "text/html"}), FailureKind.MALFORMED),
        (COUNT, answered({}), FailureKind.MALFORMED),
        (
            MESSAGES,
            answered({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}),
            FailureKind.OVERLOADED,
        ),
    ],
)
def test_what_is_no_answer_is_a_failure(endpoint, response, kind):
    with pytest.raises(UpstreamError) as caught:
        exchange(asked(endpoint)).read(response)

    assert kind is caught.value.kind


def test_a_relayed_stream_is_refused_at_the_door():
    relay = exchange(asked(stream=True))

    assert relay.refuse_head(200, {"content-type": "text/event-stream"}) is None
    assert FailureKind.OVERLOADED is relay.refuse_head(529, {}).kind
    assert FailureKind.MALFORMED is relay.refuse_head(200, {"content-type": "text/html"}).kind


@pytest.mark.behaviour(133)
def test_a_hint_on_a_good_answer_is_passed_over():
    reply = exchange(asked()).read(answered(MESSAGE, **{"retry-after": "60"}))

    assert 4 == reply.usage.output_tokens


VERTEX = {"project": "p-1", "location": "europe-west1"}
FOLDER = (
    "https://europe-west1-aiplatform.googleapis.com/v1/projects/p-1/locations/europe-west1/"
    "publishers/anthropic/models"
)


@pytest.mark.parametrize(
    ("request_", "path", "model"),
    [
        (asked(max_tokens=5), "claude-sonnet-4-5:rawPredict", None),
        (asked(stream=True), "claude-sonnet-4-5:streamRawPredict", None),
        (asked(CHAT, stream=True), "claude-sonnet-4-5:streamRawPredict", None),
        (asked(COUNT), "count-tokens:rawPredict", "claude-sonnet-4-5"),
    ],
    ids=["relayed", "streamed", "translated", "counted"],
)
def test_claude_on_vertex(request_, path, model):
    """The model stands in the path, the version in the body, and a token is the credential."""
    sent = exchange(request_, **VERTEX).request
    body = json.loads(sent.body)

    assert f"{FOLDER}/{path}" == sent.url
    assert ("vertex-2023-10-16", model) == (body["anthropic_version"], body.get("model"))
    assert "Bearer sk-ant-1" == sent.headers["authorization"]
    assert set() == {"x-api-key", VERSION} & set(sent.headers)


def test_vertex_has_its_own_credentials():
    adapter = adapter_for("anthropic")
    found = [
        adapter.authorizer(msgspec.convert({"kind": "anthropic", **config}, ProviderConfig))
        for config in ({}, VERTEX)
    ]

    assert [False, True] == [one is not None for one in found]
