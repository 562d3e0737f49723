"""The `sluiceway` command: what it prints, where, and with which exit code."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from compose.cli import main
from shared.settings import VARIABLES

GOOD = """
providers:
  mock: {kind: mock}
  openai: {kind: openai, api_key: "${NO_SUCH_KEY}", optional: true}
routes:
- {model: m, targets: [{provider: mock, model: x}], unknown_price: deny}
tenants:
- {id: acme, keys: [{name: ci, key: sk-file-canary-9876}]}
"""
BAD = """
providers:
  mock: {kind: mok}
routs: []
"""

Run = Callable[..., Result]


@pytest.fixture
def env(tmp_path):
    """Give the environment of a process of its own, nothing of ours in it."""
    ours = dict.fromkeys(VARIABLES, "")
    return {**ours, "SLUICEWAY_DATA_DIR": str(tmp_path / "state"), "NO_SUCH_KEY": ""}


@pytest.fixture
def run(env):
    """Run a command."""

    def run(*arguments: str, **more: str) -> Result:
        return CliRunner().invoke(main, arguments, env={**env, **more})

    return run


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


def test_the_version_is_printed(run):
    assert re.fullmatch(r"sluiceway \d+\.\d+\.\d+\n", run("--version").stdout)


def test_a_good_config_is_printed_without_secrets(run, good):
    result = run("check-config", str(good))

    assert 0 == result.exit_code
    assert "model: m" in result.stdout
    assert "canary" not in result.output
    assert 'note: provider "openai" is off: NO_SUCH_KEY not set\n' in result.stderr
    assert result.stderr.endswith("good.yaml is fine\n")


@pytest.mark.parametrize("command", ["api", "worker", "scheduler"])
def test_a_folder_that_cannot_be_used_is_named(run, good, tmp_path, command):
    (tmp_path / "file").write_text("")
    result = run(
        command,
        SLUICEWAY_CONFIG=str(good),
        SLUICEWAY_DATA_DIR=str(tmp_path / "file" / "state"),
        SLUICEWAY_SECRET_KEY="0123456789abcdef0123456789abcdef",
    )

    assert 2 == result.exit_code
    assert "SLUICEWAY_DATA_DIR" in result.stderr
    assert "Not a directory" in result.stderr


def test_the_file_of_the_environment_is_checked(run, good):
    assert 0 == run("check-config", SLUICEWAY_CONFIG=str(good)).exit_code


def test_a_config_is_checked_with_its_overlay(run, good):
    over = good.with_name("good.lab.toml")
    over.write_text("[cache]\nttl_s = 4\n")

    result = run("check-config", str(good), SLUICEWAY_ENV="lab")

    assert (0, True) == (result.exit_code, "ttl_s: 4.0" in result.stdout)
    assert result.stderr.startswith(f"read: {good}\nread: {over}\n")


def test_an_overlay_by_itself_says_how_to_check_it(run, good):
    over = good.with_name("good.lab.yaml")
    over.write_text("routes: [{model: m, strategy: weighted}]\n")

    result = run("check-config", str(over))

    assert 2 == result.exit_code
    assert f"to check both: SLUICEWAY_ENV=lab sluiceway check-config {good}\n" in result.stderr


@pytest.mark.parametrize("options", [(), ("--overlay",)])
def test_the_schema_for_editors_is_printed(run, options):
    schema = json.loads(run("config-schema", *options).stdout)

    assert "mock" in json.dumps(schema["definitions"])
    assert schema["additionalProperties"] is False


def test_every_mistake_of_a_config_stands_on_a_line(run, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)

    result = run("check-config", str(path))

    assert 2 == result.exit_code
    assert "" == result.stdout
    first, second, last = result.stderr.splitlines()
    assert first.startswith(f'{path}:3: providers.mock.kind: no provider kind "mok"')
    assert f'{path}:4: routs: unknown key; did you mean "routes"?' == second
    assert f"sluiceway: 2 mistakes in {path}" == last


def test_a_config_that_is_not_there_is_said(run, tmp_path):
    result = run("check-config", str(tmp_path / "none.yaml"))

    assert (2, f"sluiceway: no config file at {tmp_path}/none.yaml") == (
        result.exit_code,
        result.stderr.partition(";")[0],
    )


def test_migrate_and_its_check(run):
    assert 2 == run("migrate", "--check").exit_code
    assert "applied 0001" in run("migrate").stdout
    assert 0 == run("migrate", "--check").exit_code
    assert "already" in run("migrate").stdout


def test_mistakes_in_the_environment_are_all_told(run):
    result = run("migrate", SLUICEWAY_PORT="x", SLUICEWAY_DATABASE_URL="mysql://h/d")

    assert 2 == result.exit_code
    assert 3 == len(result.stderr.splitlines())
    assert "sluiceway: 2 mistakes in the environment" == result.stderr.splitlines()[-1]


def test_keys_want_a_schema(run):
    result = run("keys", "list")

    assert (2, "") == (result.exit_code, result.stdout)
    assert "run: sluiceway migrate" in result.stderr


def test_a_key_is_made_shown_once_listed_and_revoked(run):
    run("migrate")
    made = run(
        "keys", "create", "--tenant", "lab", "--name", "n", "--scope", "provider_models",
        "--expires-in", "90d",
    )  # fmt: skip

    key = made.stdout.strip()
    assert re.fullmatch(r"sk-sw-[A-Za-z0-9_-]{43}", key)
    assert re.search(r"its webhook secret, shown only now: whsec_[A-Za-z0-9+/]{32}\n", made.stderr)
    [listed] = json.loads(run("keys", "list", "--json").stdout)
    assert ("lab", "n", key[-4:], ["provider_models"], "active", "database") == tuple(
        listed[name] for name in ("tenant", "name", "hint", "scopes", "state", "managed_by")
    )
    assert listed["expires_at"][:4] >= "2026"
    assert key not in run("keys", "list").output
    assert 0 == run("keys", "revoke", listed["id"]).exit_code
    assert 1 == run("keys", "revoke", listed["id"]).exit_code
    assert "revoked" == json.loads(run("keys", "list", "--json").stdout)[0]["state"]


def test_the_secret_of_a_tenant_is_shown_only_when_it_is_made(run):
    run("migrate")
    run("keys", "create", "--tenant", "lab", "--name", "one")

    second = run("keys", "create", "--tenant", "lab", "--name", "two")

    assert "whsec_" not in second.output


def test_names_are_unique_until_revoked(run):
    run("migrate")
    run("keys", "create", "--tenant", "lab", "--name", "one")
    again = run("keys", "create", "--tenant", "lab", "--name", "one")
    [listed] = json.loads(run("keys", "list", "--json").stdout)
    run("keys", "revoke", listed["id"])

    assert (1, 'sluiceway: tenant "lab" already has a key named "one"\n') == (
        again.exit_code,
        again.stderr,
    )
    assert 0 == run("keys", "create", "--tenant", "lab", "--name", "one").exit_code


def test_keys_of_the_file_are_listed_as_such_and_only_there_removed(run, good):
    run("migrate")

    [listed] = json.loads(run("keys", "list", "--json", SLUICEWAY_CONFIG=str(good)).stdout)
    refused = run("keys", "revoke", listed["id"])

    assert ("file:acme/ci", "9876", "file") == tuple(
        listed[name] for name in ("id", "hint", "managed_by")
    )
    assert (1, "sluiceway: file:acme/ci stands in the config file; remove it there\n") == (
        refused.exit_code,
        refused.stderr,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tenant", "a b", "--name", "n"),
        ("--tenant", "a", "--name", "n", "--expires-in", "3 days"),
        ("--tenant", "a", "--name", "n", "--scope", "everything"),
    ],
)
def test_a_wrong_wish_is_refused(run, arguments):
    assert 2 == run("keys", "create", *arguments).exit_code


def test_a_database_that_is_away_is_said_in_a_sentence(run):
    result = run("keys", "list", SLUICEWAY_DATABASE_URL="postgresql://127.0.0.1:1/none")

    assert 1 == result.exit_code
    assert "is SLUICEWAY_DATABASE_URL right?" in result.stderr
    assert "Traceback" not in result.stderr


def sluiceway(*arguments: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "compose.cli", *arguments],
        env={**os.environ, **env},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", ["api", "worker", "scheduler"])
def test_no_process_starts_with_a_wrong_config(command, env, tmp_path):
    (tmp_path / "sluiceway.yaml").write_text(BAD)

    done = sluiceway(command, env=env, cwd=tmp_path)

    assert 2 == done.returncode
    assert "sluiceway: 2 mistakes in the config file" == done.stderr.splitlines()[-1]


@pytest.mark.parametrize("command", ["api", "worker", "scheduler"])
def test_no_process_starts_on_an_old_schema(command, env, tmp_path):
    done = sluiceway(command, *(["--port", "0"] if command == "api" else []), env=env, cwd=tmp_path)

    assert 2 == done.returncode
    assert "run: sluiceway migrate" in done.stderr.splitlines()[-1]


def test_a_port_that_is_taken_is_said(run, env, tmp_path):
    run("migrate")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        done = sluiceway("api", "--port", port, env=env, cwd=tmp_path)

    assert 1 == done.returncode
    assert (
        f"sluiceway: cannot listen on 127.0.0.1:{port}: Address already in use; try --port"
        == (done.stderr.splitlines()[-1])
    )


def test_a_light_command_imports_nothing_heavy():
    """`sluiceway --help` answers at once."""
    heavy = "alembic litestar sqlalchemy dramatiq aiohttp redis prometheus_client genai_prices"
    program = f"import sys, compose.cli; print(set({heavy.split()!r}) & set(sys.modules))"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert "set()" == done.stdout.strip()
