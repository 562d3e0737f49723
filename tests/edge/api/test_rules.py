"""Rules of routes as callers see them: now, as a stream, from the cache, later, and explained."""

import pytest

from tests.edge.api.conftest import MASTER_KEY
from tests.edge.api.gateways import gateway
from tests.edge.api.messages import line
from tests.edge.api.test_jobs import work
from tests.fakes.upstream import running_upstream, says, status, streams
from tests.fakes.vendors.anthropic import AnthropicVendor

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
BODY = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0}
LATER = {"prefer": "respond-async"}
RESEARCH = {"x-sluiceway-tags": "team=research"}
EUROPE = {"X-Region": "eu"}
ONCE = {"max_attempts": 1}


@pytest.fixture
async def upstream():
    async with running_upstream() as server:
        for name in ("small", "large", "eu"):
            server.always(name, says(f"I am {name}"))
        yield server


def config_of(upstream, **more):
    def route(model, *vendors, **keys):
        targets = [{"provider": vendor, "model": vendor} for vendor in vendors]
        return {"model": model, "targets": targets, "retry": ONCE, **keys}

    providers = {
        name: {"kind": "openai_compatible", "base_url": upstream.base_url(name)}
        for name in ("small", "large", "eu")
    }
    rules = [
        {"when": {"tags": {"team": "research"}}, "route": "big"},
        {"when": {"headers": {"X-REGION": "eu"}}, "route": "chat-eu"},
    ]
    back = [{"when": {"tags": {"team": "*"}}, "route": "chat"}]
    return {
        "providers": providers,
        "routes": [
            route("chat", "small", aliases=["talk"], rules=rules),
            route("chat-large", "large", aliases=["big"], rules=back),
            route("chat-eu", "eu"),
            route("w-*", "small", rules=rules),
            route("spare", "small", fallbacks=["chat-large"]),
        ],
        **more,
    }


@pytest.fixture
async def http(upstream, tmp_path, sqlite_url):
    narrow = [{"name": "narrow", "key": "sk-narrow-0123456789", "models": ["chat"]}]
    master = {"SLUICEWAY_MASTER_KEY": MASTER_KEY}
    config = config_of(upstream)
    async with gateway(tmp_path, sqlite_url, config, keys=narrow, env=master) as client:
        yield client


async def test_a_call_goes_where_the_first_rule_leads_that_matches(upstream, http):
    """By any name of the route; the rules of the one that serves it are not followed."""
    for model, headers, route in (
        ("chat", {}, "chat"),
        ("chat", RESEARCH, "chat-large"),
        ("talk", RESEARCH, "chat-large"),
        ("chat", EUROPE, "chat-eu"),
        ("chat", {"X-Region": "us"}, "chat"),
        ("chat", {**EUROPE, **RESEARCH}, "chat-large"),
        ("chat", {"x-sluiceway-tags": "team=other"}, "chat"),
        ("chat-eu", RESEARCH, "chat-eu"),
        ("w-1", RESEARCH, "chat-large"),
    ):
        answer = await http.post(CHAT, json={**BODY, "model": model}, headers=headers)

        assert 200 == answer.status_code, answer.text
        assert route == answer.headers["x-sluiceway-route"], (model, headers)
        served = {"chat": "small", "chat-large": "large", "chat-eu": "eu"}[route]
        assert f"I am {served}" == answer.json()["choices"][0]["message"]["content"]


async def test_a_stream_goes_there_too(upstream, http):
    upstream.script("large", streams("I ", "am"))

    answer = await http.post(CHAT, json={**BODY, "stream": True}, headers=RESEARCH)

    assert ("chat-large", 1, 0) == (
        answer.headers["x-sluiceway-route"],
        len(upstream.asked("large")),
        len(upstream.asked("small")),
    )


async def test_a_key_needs_only_the_model_that_is_asked_for(http):
    narrow = {"authorization": "Bearer sk-narrow-0123456789"}

    led = await http.post(CHAT, json=BODY, headers={**narrow, **RESEARCH})
    direct = await http.post(CHAT, json={**BODY, "model": "chat-large"}, headers=narrow)

    assert (200, 404) == (led.status_code, direct.status_code)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_rule_leads_elsewhere_is_kept_apart(upstream, tmp_path, sqlite_url, stream):
    """The same question has an answer of each route, and each is given again."""
    if stream:
        for name in ("small", "large"):
            upstream.always(name, streams("I am ", name))
    config = config_of(upstream, cache={"enabled": True})
    async with gateway(tmp_path, sqlite_url, config) as http:
        seen = []
        for headers in ({}, RESEARCH, {}, RESEARCH):
            answer = await http.post(CHAT, json={**BODY, "stream": stream}, headers=headers)
            served = "large" if "large" in answer.text else "small"
            seen.append((served, answer.headers["x-sluiceway-cache"]))

    assert [("small", "miss"), ("large", "miss"), ("small", "hit"), ("large", "hit")] == seen


@pytest.mark.parametrize(
    ("headers", "vendor"), [({}, "small"), (RESEARCH, "large"), (EUROPE, "eu")]
)
@pytest.mark.parametrize("way", ["prefer", "jobs", "background"])
async def test_a_job_goes_where_its_call_would_have_gone(
    upstream, tmp_path, sqlite_url, headers, vendor, way
):
    """Tags and the headers that rules ask for are kept with it."""
    path, body = {
        "prefer": (CHAT, BODY),
        "jobs": ("/v1/jobs", {"endpoint": CHAT, "body": BODY}),
        "background": ("/v1/responses", {"model": "chat", "input": "Hello", "background": True}),
    }[way]
    async with line(tmp_path, sqlite_url, config_of(upstream)) as api:
        asked = {**headers, "x-other": "1", **(LATER if way == "prefer" else {})}
        answer = await api.http.post(path, json=body, headers=asked)
        assert answer.status_code in {200, 202}, answer.text
        done = await work(api.edge)

    kept = {"x-region": "eu"} if vendor == "eu" else {}
    assert ("succeeded", kept) == (done.status, done.headers)
    assert [vendor] == [name for name in ("small", "large", "eu") for _ in upstream.asked(name)]


async def test_it_is_explained_which_rule_leads_where(http):
    for query, headers, expected in (
        ("", {}, ("chat", None, "chat", "small")),
        ("?tags=team%3Dresearch", {}, ("chat", "rules[0]", "chat-large", "large")),
        ("", RESEARCH, ("chat", "rules[0]", "chat-large", "large")),
        ("?tags=a%3Db,c%3Dd", EUROPE, ("chat", "rules[1]", "chat-eu", "eu")),
    ):
        answer = await http.get(
            f"/admin/routes/talk/explain{query}",
            headers={**headers, "authorization": f"Bearer {MASTER_KEY}"},
        )

        told = answer.json()
        [target] = told["targets"]
        assert expected == (told["asked"], told["rule"], told["model"], target["provider"])

    wrong = await http.get(
        "/admin/routes/chat/explain?tags=team", headers={"authorization": f"Bearer {MASTER_KEY}"}
    )
    assert 400 == wrong.status_code


async def test_a_fallback_follows_no_rules(upstream, http):
    """By its rules `chat-large` would lead back; as a fallback it serves by itself."""
    upstream.script("small", status(503))

    answer = await http.post(CHAT, json={**BODY, "model": "spare"}, headers=RESEARCH)

    assert "I am large" == answer.json()["choices"][0]["message"]["content"]


async def test_tokens_are_counted_by_whom_a_rule_leads_to(upstream, tmp_path, sqlite_url):
    """Nobody counts at `chat`; Anthropic, where the rule leads, does."""
    counted = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
    async with AnthropicVendor() as vendor:
        vendor.says("counted")
        config = config_of(upstream)
        config["providers"]["large"] = {
            "kind": "anthropic",
            "base_url": vendor.base_url,
            "api_key": "k",
        }
        async with gateway(tmp_path, sqlite_url, config) as http:
            answers = [
                await http.post("/v1/messages/count_tokens", json=counted, headers=headers)
                for headers in ({}, RESEARCH)
            ]

        assert [True, False] == ["x-sluiceway-estimated" in one.headers for one in answers]
        assert 1 == len(vendor.requests)
