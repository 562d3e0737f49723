"""The whole line as it runs in production, started once per test process."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from openai import OpenAI

from shared.store.schema import migrate
from tests.fakes.receiver import Receiver, running_receiver
from tests.fakes.stack import Child, Stack, running_stack
from tests.fakes.upstream import Upstream
from tests.fakes.vendor import running_vendor
from tests.flows.scenes import Rig, running_rig
from tests.services import run_redis

KEY = "sk-acme-0123456789abcdef"
OTHER_KEY = "sk-other-0123456789abcdef"
UPSTREAM_KEY = "sk-upstream-0123456789abcdef"
SECRET = "whsec_Zmxvd3MtZmxvd3MtZmxvd3MtZmxvd3Mt"

CONFIG = """
version: 1
providers:
  mock: {{kind: mock}}
  alpha: {{kind: openai_compatible, base_url: "{alpha}", api_key: {upstream_key}}}
  beta: {{kind: openai_compatible, base_url: "{beta}", api_key: {upstream_key}}}
defaults:
  price: {{input_per_mtok: 1, output_per_mtok: 2}}
  retry: {{max_attempts: 1}}
  breaker: {{failures: 1000, window_s: 0.1, open_s: 0.01, limited_s: 0, parked_s: 0}}
  timeouts: {{connect_s: 1, first_token_s: 0.5, idle_s: 0.5, attempt_s: 1, total_s: 5}}
routes:
  - {{model: mock, aliases: [team/mock], targets: [{{provider: mock, model: mock-1}}]}}
  - {{model: alpha, targets: [{{provider: alpha, model: alpha-1}}]}}
  - model: pair
    targets: [{{provider: alpha, model: alpha-1}}, {{provider: beta, model: beta-1}}]
  - model: stubborn
    targets: [{{provider: alpha, model: alpha-1}}]
    retry: {{max_attempts: 2, base_s: 0.01}}
  - model: slow
    targets: [{{provider: alpha, model: alpha-1}}]
    timeouts: {{connect_s: 1, first_token_s: 30, idle_s: 30, attempt_s: 30, total_s: 30}}
tenants:
  - {{id: acme, webhook_secret: "{secret}", keys: [{{name: ci, key: {key}}}]}}
  - {{id: other, keys: [{{name: ci, key: {other_key}}}]}}
queue: {{lease_s: 4, heartbeat_s: 0.5, poll_s: 1}}
webhooks: {{allow_networks: [127.0.0.0/8]}}
"""


@dataclass(kw_only=True)
class Line:
    """One API, one worker, and what stands around them."""

    stack: Stack
    api: Child
    vendor: Upstream
    receiver: Receiver

    def client(self, key: str = KEY) -> OpenAI:
        """Return the unmodified SDK, changed in nothing but base URL, key and retries."""
        return OpenAI(base_url=f"{self.api.url}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="session")
def _line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    home: Path = tmp_path_factory.mktemp("line")
    url = f"sqlite:///{home}/sluiceway.db"
    migrate(url)
    with (
        run_redis() as redis_server,
        running_vendor() as vendor,
        running_receiver(SECRET) as receiver,
        running_stack(
            home,
            CONFIG.format(
                alpha=vendor.base_url("alpha"),
                beta=vendor.base_url("beta"),
                key=KEY,
                other_key=OTHER_KEY,
                upstream_key=UPSTREAM_KEY,
                secret=SECRET,
            ),
            database_url=url,
            redis_url=redis_server.url,
        ) as stack,
    ):
        worker = stack.worker()
        api = stack.api()
        worker.wait_for_event("worker.started")
        yield Line(stack=stack, api=api, vendor=vendor, receiver=receiver)


@pytest.fixture
def line(_line: Line) -> Line:
    """The line, its vendor echoing until told otherwise."""
    _line.vendor.forget_scripts()
    return _line


@pytest.fixture
def client(line: Line) -> Iterator[OpenAI]:
    """OpenAI's SDK, pointed at the gateway."""
    with line.client() as opened:
        yield opened


@pytest.fixture(scope="session")
def _rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running_rig(tmp_path_factory.mktemp("scenes")) as rig:
        yield rig


@pytest.fixture
def rig(_rig: Rig) -> Rig:
    """Two providers, each telling its story well until told otherwise."""
    _rig.tells_well()
    return _rig


_numbers = count(1)


@pytest.fixture
def request_id(request: pytest.FixtureRequest) -> str:
    """An id for a call, by which its ledger rows are found."""
    return f"{request.node.name.split('[')[0][:80]}-{next(_numbers)}"
