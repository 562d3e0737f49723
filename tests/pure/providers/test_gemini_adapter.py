"""Where Google is called, how it is told who calls, and what the operator adds."""

import json

import msgspec
import pytest

from shared.config.model import ProviderConfig
from shared.errors import UnsupportedParameter
from shared.providers.exchange import HttpResponse
from shared.providers.registry import adapter_for
from shared.providers.request import InferenceRequest, RequestHead
from shared.providers.target import Target

HOST = "https://generativelanguage.googleapis.com/v1beta"
VERTEX = {"project": "acme", "location": "europe-west4"}
CHAT = {"messages": [{"role": "user", "content": "x"}]}


def exchange(
    endpoint="/v1/chat/completions", *, model="gemini-3-flash", secret="k", target=None, **config
):
    fields = config.pop("fields", CHAT)
    raw = json.dumps({"model": "m", **fields}).encode()
    request = InferenceRequest(
        endpoint=endpoint,
        dialect="openai",
        raw=raw,
        head=msgspec.json.decode(raw, type=RequestHead),
    )
    provider = msgspec.convert({"kind": "gemini", **config}, ProviderConfig)
    asked = Target(provider="p", model=model, **(target or {}))
    return adapter_for("gemini").exchange(provider, secret, request, asked)


@pytest.mark.parametrize(
    ("model", "config", "url"),
    [
        ("gemini-3-flash", {}, f"{HOST}/models/gemini-3-flash:generateContent"),
        ("models/gemini-3-flash", {}, f"{HOST}/models/gemini-3-flash:generateContent"),
        ("tunedModels/mine", {}, f"{HOST}/tunedModels/mine:generateContent"),
        ("a?b#c:d", {}, f"{HOST}/models/a%3Fb%23c%3Ad:generateContent"),
        (
            "gemini-3-flash",
            {"base_url": "http://proxy/", "api_version": "v1"},
            "http://proxy/v1/models/gemini-3-flash:generateContent",
        ),
        (
            "gemini-3-flash",
            {"project": "acme"},
            (
                "https://aiplatform.googleapis.com/v1beta1/projects/acme/locations/global"
                "/publishers/google/models/gemini-3-flash:generateContent"
            ),
        ),
        (
            "endpoints/123",
            VERTEX,
            (
                "https://europe-west4-aiplatform.googleapis.com/v1beta1/projects/acme"
                "/locations/europe-west4/endpoints/123:generateContent"
            ),
        ),
        (
            "gemini-3-flash",
            {"project": "acme", "location": "eu"},
            (
                "https://aiplatform.eu.rep.googleapis.com/v1beta1/projects/acme/locations/eu"
                "/publishers/google/models/gemini-3-flash:generateContent"
            ),
        ),
    ],
)
def test_addresses(model, config, url):
    assert url == exchange(model=model, **config).request.url


@pytest.mark.parametrize("model", ["../files", "models/../files", "models//x", "files/x"])
def test_a_model_leads_to_no_other_place(model):
    """Under a wildcard the caller chooses it."""
    with pytest.raises(UnsupportedParameter) as caught:
        exchange(model=model)

    assert "model" == caught.value.param


@pytest.mark.parametrize(
    ("config", "secret", "headers"),
    [
        ({}, "AIzaKey", {"x-goog-api-key": "AIzaKey"}),
        (VERTEX, "ya29.token", {"authorization": "Bearer ya29.token"}),
        (VERTEX, "AIzaKey", {"x-goog-api-key": "AIzaKey"}),
        ({"headers": {"X-Goog-Api-Key": "own"}}, None, {"x-goog-api-key": "own"}),
        ({}, None, {}),
    ],
)
def test_who_calls(config, secret, headers):
    sent = exchange(secret=secret, **config).request.headers

    found = {name: sent[name] for name in ("x-goog-api-key", "authorization") if name in sent}
    assert headers == found
    assert "identity" == sent["accept-encoding"]


@pytest.mark.parametrize(
    ("header", "counted", "tier"),
    [
        ({"x-gemini-service-tier": "FLEX"}, {}, "flex"),
        ({"x-gemini-service-tier": "standard"}, {}, "default"),
        ({"x-gemini-service-tier": "priority"}, {"serviceTier": "flex"}, "flex"),
        ({}, {}, None),
    ],
)
@pytest.mark.parametrize("config", [{}, VERTEX], ids=["developer", "vertex"])
def test_the_tier_may_stand_in_the_head_alone(header, counted, tier, config):
    """A stream's is known before anything is counted."""
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, **counted}
    said = {"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}
    answer = json.dumps({"candidates": [said], "usageMetadata": usage}).encode()
    asked = exchange(secret=None, **config)
    scanner = asked.scanner()

    reply = asked.read(HttpResponse(status=200, headers=header, body=answer))
    refused = asked.refuse_head(200, {"content-type": "text/event-stream", **header})
    told = scanner.service_tier
    scanner.feed(b"data: " + answer + b"\n\n")

    assert (tier, None) == (reply.usage.service_tier, refused)
    assert tier == (scanner.usage.service_tier or told)


def test_only_vertex_obtains_tokens():
    gemini = adapter_for("gemini")

    assert gemini.authorizer(ProviderConfig(kind="gemini")) is None
    assert gemini.authorizer(ProviderConfig(kind="gemini", project="acme")) is not None


def test_the_operators_params_fill_what_the_caller_left_out():
    """In Google's words and either spelling; a target's count before its provider's."""
    asked = exchange(
        fields={**CHAT, "temperature": 0.5},
        params={"generation_config": {"temperature": 0.1, "topK": 1}, "safetySettings": ["s"]},
        target={"params": {"generationConfig": {"topK": 2}}},
    )
    body = json.loads(asked.request.body)

    assert {"temperature": 0.5, "topK": 2} == body["generationConfig"]
    assert ["s"] == body["safetySettings"]


@pytest.mark.behaviour(62)
def test_what_is_dropped_can_be_refused():
    fields = {**CHAT, "logit_bias": {"1": 1}}

    assert ("logit_bias",) == exchange(fields=fields).dropped
    with pytest.raises(UnsupportedParameter) as caught:
        exchange(fields=fields, target={"unsupported": "error"})
    assert "logit_bias" == caught.value.param


@pytest.mark.parametrize(
    ("model", "config", "fields", "param"),
    [
        pytest.param(
            "gemini-embedding-001",
            {},
            {"input": [1, 2]},
            "input",
            marks=pytest.mark.behaviour(186),
        ),
        pytest.param(
            "embedding-001",
            {},
            {"input": "a", "dimensions": 5},
            "dimensions",
            marks=pytest.mark.behaviour(187),
        ),
    ],
)
def test_vectors_that_cannot_be_had(model, config, fields, param):
    with pytest.raises(UnsupportedParameter) as caught:
        exchange("/v1/embeddings", model=model, fields=fields, **config)

    assert param == caught.value.param


@pytest.mark.parametrize(
    ("model", "config", "calls", "first"),
    [
        ("gemini-embedding-001", {}, 2, None),
        (
            "gemini-embedding-001",
            VERTEX,
            150,
            {"instances": [{"content": "0", "task_type": "CLUSTERING"}]},
        ),
        (
            "gemini-embedding-2",
            VERTEX,
            150,
            {"content": {"parts": [{"text": "0"}]}, "taskType": "CLUSTERING"},
        ),
        ("text-embedding-005", VERTEX, 2, None),
    ],
)
def test_many_texts_are_asked_in_as_many_calls_as_it_takes(model, config, calls, first):
    texts = [str(number) for number in range(150)]
    fields = {"input": texts, "task_type": "CLUSTERING"}
    asked = exchange("/v1/embeddings", model=model, fields=fields, **config)

    assert calls == len(asked.requests)
    if first is not None:
        assert first == json.loads(asked.requests[0].body)


@pytest.mark.parametrize(
    ("endpoint", "fields", "urls"),
    [
        ("/v1/embeddings", {"input": "http://a"}, ()),
        ("/v1/chat/completions", CHAT, ()),
        (
            "/v1/chat/completions",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "https://a/b"}}],
                    }
                ]
            },
            ["https://a/b"],
        ),
    ],
)
def test_what_the_gateway_must_fetch(endpoint, fields, urls):
    raw = json.dumps({"model": "m", **fields}).encode()
    request = InferenceRequest(
        endpoint=endpoint,
        dialect="openai",
        raw=raw,
        head=msgspec.json.decode(raw, type=RequestHead),
    )
    target = Target(provider="p", model="gemini-3-flash")

    assert urls == adapter_for("gemini").fetches(request, target)
