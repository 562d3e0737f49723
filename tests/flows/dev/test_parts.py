"""The parts of the embedded stack that need no stack to be tried."""

import asyncio
import os
import signal
import subprocess
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from compose.dev_config import DevKeys, effective, generated, tour_model, webhook_secret
from compose.discover import Found, discover, ollama_models
from compose.journal import shown_line
from compose.receiver import genuine
from compose.redis_server import redis_plan
from compose.tie import Tie
from compose.tour_report import dollars
from shared.config.load import load_config
from shared.providers.registry import kinds
from tests.fakes.stack import eventually

pytestmark = pytest.mark.anyio

SECRET = "whsec_ZGV2LWRldi1kZXYtZGV2LWRldi1kZXYt"
KEYS = DevKeys(key="sk-sw-dev-0123456789abcdef", webhook_secret=SECRET)
OPENAI = Found(name="openai", entry={"kind": "openai", "api_key": "${KEY}"}, models=("gpt", "own"))
LOCAL = Found(name="ollama", entry={"kind": "ollama"}, models=("own", "llama3:8b"))


def loaded(text, **env):
    return load_config(text, env, kinds()).config


def provider_of(config):
    return {route.model: route.targets[0].provider for route in config.routes}


# The generated config


def test_without_anything_there_is_the_mock_with_a_price():
    config = loaded(generated((), KEYS))

    assert {"mock": "mock"} == provider_of(config)
    assert config.routes[0].price is not None
    assert ("127.0.0.0/8", "::1/128") == config.webhooks.allow_networks
    assert "mock" == tour_model(config)


def test_what_was_found_gets_routes_and_the_first_provider_a_shared_name():
    config = loaded(generated((OPENAI, LOCAL), KEYS), KEY="sk-x")

    expected = {"gpt": "openai", "own": "openai", "llama3:8b": "ollama", "mock": "mock"}
    assert expected == provider_of(config)
    assert "gpt" == tour_model(config)


async def test_a_vendor_is_found_by_its_key_which_stays_in_the_environment():
    found = await discover({"GROQ_API_KEY": "gsk-secret"})
    text = generated(found, KEYS)

    assert "groq" == found[0].name
    assert "gsk-secret" not in text
    assert "gsk-secret" == loaded(text, GROQ_API_KEY="gsk-secret").providers["groq"].api_key


# A given config


GIVEN = """
version: 1
providers: {local: {kind: openai_compatible, base_url: "http://127.0.0.1:9/v1", api_key: "${K}"}}
defaults: {stream_recovery: off, price: {input_per_mtok: 2.50, output_per_mtok: 10}}
routes:
  - {model: text-embed, targets: [{provider: local, model: e}]}
  - {model: house, targets: [{provider: local, model: "007"}]}
tenants: [{id: dev, keys: [{name: dev, key: "${DEV}"}]}, {id: acme}]
webhooks: {allow_networks: [10.0.0.0/8]}
"""
ENV = {"K": "sk-k", "DEV": "sk-own-0123456789abcdef"}


def test_a_given_file_keeps_its_meaning_and_gets_what_dev_needs(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(GIVEN)

    text = effective(path, ENV, KEYS)
    config = loaded(text, **ENV)

    assert "sk-k" not in text
    assert ["text-embed", "house", "mock"] == [route.model for route in config.routes]
    house = config.routes[1]
    assert ("off", "007") == (house.stream_recovery, house.targets[0].model)
    assert "2.50" == house.price.input_per_mtok
    assert ["dev", "acme"] == [tenant.id for tenant in config.tenants]
    assert [ENV["DEV"], KEYS.key] == [key.key for key in config.tenants[0].keys]
    assert SECRET == webhook_secret(config)
    assert ("10.0.0.0/8", "127.0.0.0/8", "::1/128") == config.webhooks.allow_networks
    assert "house" == tour_model(config)


def test_a_copy_of_the_generated_file_may_be_given(tmp_path):
    path = tmp_path / "sluiceway.yaml"
    path.write_text(generated((), KEYS))

    assert loaded(generated((), KEYS)) == loaded(effective(path, {}, KEYS))


def test_toml_may_be_given(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('version = 1\n[cache]\nttl_s = 2.5\n[[tenants]]\nid = "acme"\n')

    config = loaded(effective(path, {}, KEYS))

    assert 2.5 == config.cache.ttl_s
    assert ["acme", "dev"] == [tenant.id for tenant in config.tenants]


def test_a_file_may_be_given_with_its_overlay(tmp_path):
    """What needs certificates elsewhere is served without them on this machine."""
    path = tmp_path / "own.yaml"
    path.write_text("cache: {ttl_s: 2, max_entries: 3}\nserver: {tls: {cert_file: a, key_file: b}}")
    (tmp_path / "own.lab.yaml").write_text("cache: {ttl_s: 4}\nserver: {max_body_mb: 5}")

    config = loaded(effective(path, {"SLUICEWAY_ENV": "lab"}, KEYS))

    assert (4.0, 3) == (config.cache.ttl_s, config.cache.max_entries)
    assert (5, None) == (config.server.max_body_mb, config.server.tls)


@pytest.mark.parametrize("text", ["", "version: 1\nproviders:\ntenants: null\n"])
def test_an_empty_file_may_be_given(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text)

    assert loaded(generated((), KEYS)) == loaded(effective(path, {}, KEYS))


def test_a_file_that_means_something_else_by_mock_keeps_it(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("providers: {mock: {kind: vllm}}\n")

    config = loaded(effective(path, {}, KEYS))

    assert "vllm" == config.providers["mock"].kind
    assert () == config.routes


# Ollama


@asynccontextmanager
async def ollama(*names, wait_s=0.0):
    async def version(_request):
        await asyncio.sleep(wait_s)
        return web.json_response({"version": "0.12.0"})

    async def tags(_request):
        return web.json_response({"models": [{"name": name, "size": 1} for name in names]})

    app = web.Application()
    app.router.add_get("/api/version", version)
    app.router.add_get("/api/tags", tags)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_an_ollama_tells_its_models_that_can_chat():
    async with ollama("llama3:8b", "nomic-embed-text:latest", "qwen3:4b") as url:
        assert ("llama3:8b", "qwen3:4b") == await ollama_models(url)


async def test_a_slow_or_absent_ollama_is_none():
    async with ollama("llama3:8b", wait_s=1.0) as url:
        assert await ollama_models(url) is None
    assert await ollama_models(url) is None


# Webhooks


def test_a_webhook_is_genuine_when_the_standards_own_library_signed_it():
    at = datetime(2030, 1, 1, tzinfo=UTC)
    body = b'{"type":"job.succeeded"}'
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": "v1,bad " + Webhook(SECRET).sign("evt_1", at, body.decode()),
    }

    assert genuine(SECRET, headers, body, now_s=at.timestamp() + 10)
    assert not genuine(SECRET, headers, body + b" ", now_s=at.timestamp() + 10)
    assert not genuine(SECRET, headers, body, now_s=at.timestamp() + 301)
    assert not genuine(SECRET, {}, body, now_s=at.timestamp())


# What is shown


SERVED = (
    b'{"event":"request.served","level":"info","timestamp":"2030-01-01T10:20:30.5+00:00",'
    b'"endpoint":"/v1/embeddings","status":200,"elapsed_ms":12.3,"model":"m"}'
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"not json", None),
        (b'{"event":"job.finished","level":"info"}', None),
        (b'{"event":"start.note","level":"warning"}', None),
        (
            SERVED,
            ("10:20:30  200  /v1/embeddings  m  12 ms", "dim"),
        ),
        (
            b'{"event":"store.away","level":"error","timestamp":"2030-01-01T10:20:30.5Z","why":"x"}',
            ("10:20:30  api error: store.away (x)", "red"),
        ),
    ],
)
def test_a_log_line_becomes_a_line_for_a_person_or_none(line, expected):
    assert expected == shown_line("api", line)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [("0", "$0.000000"), ("12.5", "$12.500000"), ("0.000000034", "$0.000000034")],
)
def test_no_cost_is_shown_as_nothing(amount, expected):
    assert expected == dollars(Decimal(amount))


# Redis and the tie


def test_a_socket_path_that_is_too_long_moves_to_a_short_folder(tmp_path):
    deep = tmp_path / ("d" * 100)
    with redis_plan(deep) as plan:
        assert plan is not None
        assert len(os.fsencode(plan.socket)) < 100
        assert plan.socket.parent.is_dir()
    assert not plan.socket.parent.exists()


@pytest.mark.parametrize("linux", [False, True])
def test_a_guard_kills_what_is_tied_when_its_pipe_ends(linux):
    """How it works where the kernel does not; on Linux the kernel does it, and closing is free."""
    tie = Tie(linux=linux)
    tied, forgotten = (
        subprocess.Popen(["/bin/sleep", "60"], preexec_fn=tie.before_exec)  # noqa: PLW1509
        for _ in range(2)
    )
    try:
        tie.add(tied.pid)
        tie.add(forgotten.pid)
        tie.remove(forgotten.pid)
        tie.close()

        if not linux:
            assert -signal.SIGKILL == eventually(tied.poll)
        assert forgotten.poll() is None
    finally:
        for process in (tied, forgotten):
            process.kill()
            process.wait()
