"""Alerts as they happen: from a call, a refusal and a job to whoever the config names, once."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from shared.store.schema import migrate
from tests.fakes.receiver import Receiver, running_receiver
from tests.fakes.stack import Child, eventually, running_stack

SECRET = "whsec_Zmxvd3MtZmxvd3MtZmxvd3MtZmxvd3Mt"
WARNED = "sk-warned-0123456789abcdef"
POOR = "sk-poor-0123456789abcdef"
LATER = "sk-later-0123456789abcdef"
CONFIG = """
version: 1
providers: {{mock: {{kind: mock}}}}
routes:
  - model: mock
    targets: [{{provider: mock, model: mock-1}}]
    price: {{input_per_mtok: 1, output_per_mtok: 2}}
tenants:
  - id: warned
    keys: [{{name: ci, key: {warned}}}]
    budgets: [{{window: month, limit_usd: "0.000001", action: warn}}]
  - id: poor
    keys: [{{name: ci, key: {poor}}}]
    budgets: [{{window: month, limit_usd: "0.000001"}}]
  - id: later
    keys: [{{name: ci, key: {later}}}]
    budgets: [{{window: month, limit_usd: "0.000001", action: warn, thresholds: [80]}}]
queue: {{poll_s: 0.2}}
alerts:
  webhook: "{webhook}"
  webhook_secret: {secret}
  slack_url: "{slack}"
"""


@dataclass(kw_only=True)
class Line:
    """An API, a worker, and who is told."""

    api: Child
    webhook: Receiver
    slack: Receiver

    def ask(self, key: str, **headers: str) -> httpx.Response:
        return httpx.post(
            f"{self.api.url}/v1/chat/completions",
            json={"model": "mock", "messages": [{"role": "user", "content": "hello"}]},
            headers={"authorization": f"Bearer {key}", **headers},
            timeout=30,
        )

    def told(self, tenant_id: str) -> list[tuple[str, str, int]]:
        facts = [
            (one.json["type"], one.json["data"])
            for one in self.webhook.webhooks
            if one.json["data"]["tenant_id"] == tenant_id
        ]
        return sorted((kind, one["basis"], one["threshold"]) for kind, one in facts)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    home: Path = tmp_path_factory.mktemp("alerts")
    with running_receiver(SECRET) as webhook, running_receiver(SECRET) as slack:
        config = CONFIG.format(
            warned=WARNED,
            poor=POOR,
            later=LATER,
            webhook=webhook.url,
            slack=slack.url,
            secret=SECRET,
        )
        url = f"sqlite:///{home}/sluiceway.db"
        migrate(url)
        with running_stack(home / "stack", config, database_url=url, redis_url=None) as stack:
            api = stack.start("api", "--stop-delay=0")
            stack.start("worker")
            stack.wait_for_api(api)
            yield Line(api=api, webhook=webhook, slack=slack)


def test_a_call_that_passes_thresholds_is_told_of_once(line: Line):
    """By webhook, signed, and in Slack; later calls in the window tell nothing more."""
    expected = [
        ("budget.exceeded", "spent", 100),
        *(("budget.threshold_reached", "spent", percent) for percent in (100, 50, 80)),
    ]
    assert 200 == line.ask(WARNED).status_code
    eventually(lambda: len(line.told("warned")) >= 4, what="alerts")
    assert 200 == line.ask(WARNED).status_code
    eventually(lambda: len(line.slack.webhooks) >= 4, what="Slack")

    assert sorted(expected) == line.told("warned")
    assert all(one.verified for one in line.webhook.webhooks)
    headlines = [one.json["text"] for one in line.slack.webhooks]
    assert any("Budget tenant:warned/month has reached 50 %" in one for one in headlines)


def test_the_first_refusal_is_told_of_once(line: Line):
    assert [429, 429, 429] == [line.ask(POOR).status_code for _ in range(3)]

    eventually(lambda: line.told("poor"), what="alert")
    line.ask(POOR)

    assert [("budget.exceeded", "refused", 100)] == line.told("poor")


def test_a_job_tells_as_a_call_does(line: Line):
    assert 202 == line.ask(LATER, prefer="respond-async").status_code

    eventually(lambda: len(line.told("later")) >= 2, within_s=20, what="alerts")

    expected = [("budget.exceeded", "spent", 100), ("budget.threshold_reached", "spent", 80)]
    assert expected == line.told("later")
