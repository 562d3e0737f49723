"""Kinds, addresses and headers."""

import json

import msgspec
import pytest

from shared.config.kinds import KindNeeds
from shared.config.model import ProviderConfig
from shared.errors import OwnFault, UnsupportedParameter
from shared.providers.base_url import endpoint_url, with_v1
from shared.providers.registry import adapter_for, all_adapters, by_kind, kinds
from shared.providers.request import InferenceRequest, RequestHead
from shared.providers.target import Target

TARGET = Target(provider="p", model="up")


def asked(endpoint="/v1/chat/completions", dialect="openai", **fields):
    raw = json.dumps({"model": "m", **fields}).encode()
    head = msgspec.json.decode(raw, type=RequestHead)
    return InferenceRequest(endpoint=endpoint, dialect=dialect, raw=raw, head=head)


def exchange(kind="openai", secret="sk-1", request=None, target=TARGET, **config):
    provider = msgspec.convert({"kind": kind, **config}, ProviderConfig)
    return adapter_for(kind).exchange(provider, secret, request or asked(), target)


def test_two_adapters_of_one_kind_are_refused():
    adapter = adapter_for("openai")

    with pytest.raises(OwnFault, match="'openai'"):
        by_kind([adapter, adapter])


def test_an_unknown_kind_is_our_fault():
    with pytest.raises(OwnFault, match="'nope'"):
        adapter_for("nope")


def test_keys_are_needed_where_vendors_want_them():
    """Servers of one's own need none, and clouds have credentials of another kind."""
    free = {kind for kind, adapter in all_adapters().items() if not adapter.needs_key}

    assert {
        "llamacpp",
        "lmstudio",
        "mock",
        "ollama",
        "openai_compatible",
        "sglang",
        "vllm",
    } <= free
    assert {"openai", "groq", "openrouter", "azure_openai", "xai", "mistral"} & free == set()


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://gpu:8000", "http://gpu:8000/v1/chat/completions"),
        ("http://gpu:8000/", "http://gpu:8000/v1/chat/completions"),
        ("http://gpu:8000/v1", "http://gpu:8000/v1/chat/completions"),
        ("http://gpu:8000/v1/", "http://gpu:8000/v1/chat/completions"),
        ("https://api.z.ai/api/paas/v4", "https://api.z.ai/api/paas/v4/chat/completions"),
    ],
)
def test_addresses_are_joined_without_doubling(base_url, url):
    assert url == endpoint_url(base_url, "/v1/chat/completions")


def test_a_host_root_gets_its_surface_once():
    assert ["http://a/v1"] * 3 == [
        with_v1(root) for root in ("http://a", "http://a/", "http://a/v1")
    ]


def test_a_server_without_an_address_is_our_fault():
    with pytest.raises(OwnFault, match="base_url"):
        exchange("openai_compatible")


@pytest.mark.parametrize(
    ("kind", "request_"),
    [
        ("openai", asked("/v1/rerank")),
        ("groq", asked("/v1/embeddings")),
        ("deepseek", asked("/v1/nonsense")),
    ],
)
def test_what_a_vendor_does_not_serve_is_said_before_the_call(kind, request_):
    with pytest.raises(UnsupportedParameter):
        exchange(kind, request=request_)


@pytest.mark.behaviour(149)
def test_headers_are_ours_and_the_operators_only():
    sent = exchange(
        headers={"OpenAI-Organization": "o"},
        target=Target(provider="p", model="m", headers={"X-A": "1"}),
    ).request.headers

    assert {
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "sluiceway",
        "authorization": "Bearer sk-1",
        "openai-organization": "o",
        "x-a": "1",
    } == sent


def test_no_key_means_no_header():
    """An empty Authorization is refused by some servers."""
    assert "authorization" not in exchange("vllm", secret=None).request.headers
    assert "authorization" not in exchange("vllm", secret="").request.headers


def test_what_each_kind_needs_in_the_file_is_said():
    assert KindNeeds(base_url=True) == kinds()["openai_compatible"]
    assert KindNeeds(key=True) == kinds()["openai"]
    assert KindNeeds() == kinds()["mock"] == kinds()["ollama"] == kinds()["vllm"]


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"max_output_tokens": 10}, (None, 10)),
        ({}, (30_000, None)),
    ],
    ids=["the caller's", "the operator's"],
)
def test_the_operators_bound_does_not_stand_beside_a_callers_of_another_dialect(fields, sent):
    """Chat has two names for it, of which servers obey one or the other."""
    target = msgspec.structs.replace(TARGET, params={"max_tokens": 30_000})
    request = asked("/v1/responses", "openai_responses", input="hello", **fields)
    url = "https://example.com/v1"

    body = json.loads(
        exchange("openai_compatible", request=request, target=target, base_url=url).request.body
    )

    assert sent == (body.get("max_tokens"), body.get("max_completion_tokens"))
