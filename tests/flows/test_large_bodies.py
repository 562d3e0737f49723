"""Large requests: passed on without being kept many times over."""

from pathlib import Path

import httpx
import pytest

from tests.fakes.upstream import says
from tests.flows.conftest import KEY, Line

BODY_MB = 20
MOST_COPIES = 4
"""As it came, joined, written anew, and on its way out."""


def peak_mb(pid: int) -> float:
    """Return the most memory that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


@pytest.mark.behaviour(44)
def test_a_large_body_is_relayed_without_many_copies(line: Line):
    line.vendor.always("alpha", says("ok"))
    api = line.stack.api()

    def ask(text: str) -> httpx.Response:
        body = {"model": "slow", "messages": [{"role": "user", "content": text}]}
        headers = {"authorization": f"Bearer {KEY}"}
        url = f"{api.url}/v1/chat/completions"
        return httpx.post(url, headers=headers, json=body, timeout=30)

    ask("warm up")
    before_mb = peak_mb(api.process.pid)
    answer = ask("x" * BODY_MB * 1_000_000)
    grown_mb = peak_mb(api.process.pid) - before_mb

    assert 200 == answer.status_code, answer.text[:300]
    assert len(line.vendor.asked("alpha")[-1].body) > BODY_MB * 1_000_000
    assert grown_mb < MOST_COPIES * BODY_MB
    assert 0 == api.stop()
