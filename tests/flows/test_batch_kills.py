"""A batch half done when everything is killed goes on where it was; and its size is no matter."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI
from openai.types import Batch

from tests.fakes.stack import Child, Stack, eventually, running_stack
from tests.services import RedisServer

KEY = "sk-kills-0123456789abcdef"
CHAT = "/v1/chat/completions"
LINES = 80
FEW = 100
MANY = int(os.environ.get("SLUICEWAY_BATCH_LINES", "600"))
"""Lines of the larger batch whose memory is compared; 50000 is the full length (4 minutes)."""
MOST_GROWTH_MB = 40.0

CONFIG = f"""
version: 1
providers: {{mock: {{kind: mock}}}}
routes:
  - model: mock
    targets: [{{provider: mock, model: mock-1}}]
    price: {{input_per_mtok: 1, output_per_mtok: 2}}
tenants: [{{id: acme, keys: [{{name: ci, key: {KEY}}}]}}]
queue: {{lease_s: 1, heartbeat_s: 0.2, poll_s: 0.1}}
logging: {{requests: false}}
"""


@pytest.fixture
def stack(tmp_path: Path, postgres_url: str, redis_server: RedisServer) -> Iterator[Stack]:
    with running_stack(
        tmp_path / "stack", CONFIG, database_url=postgres_url, redis_url=redis_server.url
    ) as running:
        yield running


def client_of(api: Child) -> OpenAI:
    return OpenAI(base_url=f"{api.url}/v1", api_key=KEY, max_retries=0)


def create(client: OpenAI, lines: int, delay_ms: int) -> Batch:
    text = "\n".join(
        json.dumps(
            {
                "custom_id": f"line {number}",
                "method": "POST",
                "url": CHAT,
                "body": {
                    "model": "mock",
                    "messages": [{"role": "user", "content": f"say {number}"}],
                    "mock": {"delay_ms": delay_ms},
                },
            }
        )
        for number in range(lines)
    )
    file = client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")


def completed(client: OpenAI, batch: Batch) -> int:
    found = client.batches.retrieve(batch.id).request_counts
    assert found is not None
    return found.completed


def test_a_batch_goes_on_where_it_was_when_everything_is_killed(stack: Stack):
    """Each line is answered once and paid for once; what was finished is not asked again."""
    api, worker = stack.api(), stack.worker("--slots=8")
    with client_of(api) as client:
        batch = create(client, LINES, delay_ms=100)
        eventually(lambda: completed(client, batch) >= LINES // 4, within_s=30, what="a quarter")
    for child in (worker, api):
        child.kill()
    before = {row["id"] for row in stack.rows("SELECT id FROM job WHERE status = 'succeeded'")}

    api = stack.api()
    stack.worker("--slots=8")
    with client_of(api) as client:
        done = eventually(
            lambda: of_status(client, batch, "completed"), within_s=60, what="completed batch"
        )
        content = client.files.content(str(done.output_file_id)).text

    answers = {row["custom_id"]: row for row in map(json.loads, content.splitlines())}
    assert {f"line {number}": f"You said: say {number}" for number in range(LINES)} == {
        name: row["response"]["body"]["choices"][0]["message"]["content"]
        for name, row in answers.items()
    }
    assert LINES == len(content.splitlines())
    paid = stack.rows(
        "SELECT job_id, COUNT(*) AS n FROM ledger WHERE outcome = 'succeeded' GROUP BY job_id"
    )
    assert [1] * LINES == [row["n"] for row in paid]
    tries = stack.rows("SELECT job_id, COUNT(*) AS n FROM attempt GROUP BY job_id")
    assert {1} == {row["n"] for row in tries if row["job_id"] in before}


def of_status(client: OpenAI, batch: Batch, status: str) -> Batch | None:
    now = client.batches.retrieve(batch.id)
    return now if now.status == status else None


def test_memory_does_not_grow_with_the_lines(
    tmp_path: Path, sqlite_url: str, redis_server: RedisServer
):
    with running_stack(
        tmp_path / "stack", CONFIG, database_url=sqlite_url, redis_url=redis_server.url
    ) as stack:
        api, worker = stack.api(), stack.worker("--slots=50")
        with client_of(api) as client:
            run(client, FEW)
            few = peak_mb(api, worker)
            run(client, MANY)
            many = peak_mb(api, worker)

    grown = [after - before for before, after in zip(few, many, strict=True)]
    assert max(grown) < MOST_GROWTH_MB, f"{few} MB grew to {many} MB"


def run(client: OpenAI, lines: int) -> None:
    batch = create(client, lines, delay_ms=0)
    eventually(
        lambda: of_status(client, batch, "completed"),
        within_s=60 + lines / 50,
        every_s=0.2,
        what=f"batch of {lines}",
    )
    assert lines == completed(client, batch)


def peak_mb(*children: Child) -> list[float]:
    """Return the most memory each process has had, in MiB."""
    return [
        int(line.split()[1]) / 1024
        for child in children
        for line in Path(f"/proc/{child.process.pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    ]
