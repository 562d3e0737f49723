"""`sluiceway alerts`: what was told, and whether it would arrive."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from compose.cli import main
from shared.ids import new_id
from shared.settings import VARIABLES
from shared.store.alerts import claim_alerts
from shared.store.engine import open_store
from shared.store.records import Alert, AlertKey
from shared.webhooks.alerting import SLACK, WEBHOOK, Teller
from tests.fakes.receiver import running_receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT = datetime(2026, 3, 5, tzinfo=UTC)


@pytest.fixture
def run(sqlite_url, tmp_path):
    """Run a command on the test's database."""
    ours = dict.fromkeys(VARIABLES, "")
    env = {**ours, "SLUICEWAY_DATABASE_URL": sqlite_url, "SLUICEWAY_DATA_DIR": str(tmp_path)}

    def run(*arguments, config=None):
        if config is not None:
            path = tmp_path / "sluiceway.yaml"
            path.write_text(config)
            env["SLUICEWAY_CONFIG"] = str(path)
        return CliRunner().invoke(main, ("alerts", *arguments), env=env)

    return run


@pytest.fixture
def told(sqlite_url):
    """Two alerts: one to two places, one that nobody asked for."""

    async def tell():
        store = await open_store(sqlite_url)
        for number, urls in enumerate([(WEBHOOK, SLACK), ()]):
            key = AlertKey(
                budget_id=f"tenant:t{number}/day", starts_at=AT, kind="spent", threshold=80
            )
            event_id = new_id("evt")
            async with store.write() as tx:
                now = await tx.now()
                await claim_alerts(tx, {key: event_id}, now)
                alert = Alert(key=key, tenant_id=f"t{number}", facts={})
                await Teller(ids=new_id, urls=urls)(tx, alert, event_id, now)
        await store.close()

    asyncio.run(tell())


def test_what_was_told_is_listed_newest_first(run, told):
    lines = run("list").stdout.splitlines()

    assert ["tenant:t1/day", "tenant:t0/day"] == [line.split()[2] for line in lines[1:]]
    assert lines[1].endswith("nobody asked for it")
    assert lines[2].endswith("slack pending, webhook pending")


def test_one_budget_s_are_listed_for_programs(run, told):
    [found] = json.loads(run("list", "--budget=tenant:t0/day", "--json").stdout)

    assert ("spent", 80) == (found["kind"], found["threshold"])
    assert ["slack", "webhook"] == [one["place"] for one in found["deliveries"]]


def test_an_empty_list_says_so(run):
    assert "nothing was told\n" == run("list").stderr


def test_a_sample_goes_to_each_place(run):
    with running_receiver(SECRET) as receiver:
        config = f"alerts: {{webhook: '{receiver.url}', webhook_secret: {SECRET}}}"
        done = run("test", config=config)

    [received] = receiver.webhooks
    assert (0, True) == (done.exit_code, received.verified)
    assert ["webhook", "204"] == done.stdout.splitlines()[1].split()
    assert received.json["data"]["test"] is True


def test_a_place_that_takes_nothing_is_an_error(run):
    done = run("test", config="alerts: {slack_url: 'http://127.0.0.1:1/'}")

    assert 1 == done.exit_code
    assert "slack" in done.stdout
    assert "Connect" in done.stdout


def test_without_a_place_there_is_nothing_to_try(run):
    done = run("test", config="version: 1")

    assert (2, True) == (done.exit_code, "name no place" in done.stderr)
