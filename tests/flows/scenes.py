"""An API and a worker between two providers that fail on demand, and callers that look closely."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
import msgspec

from shared.store.schema import migrate
from tests.fakes.scripted import TOKENS, Story
from tests.fakes.stack import Child, Stack, running_stack
from tests.fakes.upstream import (
    Answer,
    Upstream,
    events,
    sse,
    status,
)
from tests.fakes.vendor import running_vendor

KEY = "sk-scenarios-0123456789abcdef"
WAIT_S = 0.3
"""The first-token and the idle limit of every route here."""

CONFIG = """
version: 1
providers:
  alpha: {{kind: openai_compatible, base_url: "{alpha}", api_key: sk-upstream}}
  beta: {{kind: openai_compatible, base_url: "{beta}", api_key: sk-upstream}}
  claude: {{kind: anthropic, base_url: "{claude}", api_key: sk-upstream}}
  native: {{kind: openai, base_url: "{native}", api_key: sk-upstream}}
defaults:
  price: {{input_per_mtok: 1, output_per_mtok: 2}}
  # The share: scenarios come in any order, each as if it were the first of its route.
  retry: {{max_attempts: 2, base_s: 0.01, max_s: 1.5, share: 6}}
  breaker: {{failures: 1000, window_s: 0.1, open_s: 0.01}}
  timeouts: {{connect_s: 1, first_token_s: {wait}, idle_s: {wait}, attempt_s: 1.2, total_s: 8}}
routes:
{routes}
  - model: mixed
    stream_recovery: continue
    targets: [{{provider: alpha, model: a}}, {{provider: claude, model: claude-sonnet-4-5}}]
  - model: claudes
    stream_recovery: continue
    targets: [{{provider: claude, model: claude-sonnet-4-5}}, {{provider: alpha, model: a}}]
  - model: responds-first/*
    stream_recovery: continue
    targets: [{{provider: native, model: "*"}}, {{provider: claude, model: claude-sonnet-4-5}}]
  - model: responds-second/*
    stream_recovery: continue
    targets: [{{provider: alpha, model: "*"}}, {{provider: native, model: "*"}}]
  - model: hedged-route/*
    hedge: {{enabled: true, after_s: 0.1}}
    retry: {{max_attempts: 1}}
    timeouts: {{connect_s: 1, first_token_s: 2, idle_s: 2, attempt_s: 2, total_s: 8}}
    targets: [{{provider: alpha, model: "*"}}, {{provider: beta, model: "*"}}]
  - model: down
    targets: [{{provider: alpha, model: down-1}}, {{provider: beta, model: b}}]
    retry: {{max_attempts: 1}}
    breaker: {{failures: 3, open_s: 0.5}}
  - model: short
    targets: [{{provider: alpha, model: s}}, {{provider: beta, model: s}}]
    stream_recovery: continue
    timeouts: {{connect_s: 1, first_token_s: 0.4, idle_s: 0.4, attempt_s: 0.6, total_s: 8}}
tenants:
  - {{id: acme, keys: [{{name: ci, key: {key}}}]}}
queue: {{poll_s: 0.2}}
"""
ROUTE = """\
  - model: {shape}-{recovery}/*
    stream_recovery: "{recovery}"
    targets: [{targets}]
"""
TARGETS = {
    "pair": "{provider: alpha, model: '*'}, {provider: beta, model: '*'}",
    "alone": "{provider: alpha, model: '*'}",
    "able": "{provider: alpha, model: '*'},"
    " {provider: beta, model: '*', capabilities: {prefill: true}}",
}
RECOVERIES = ("off", "restart", "continue")


@dataclass(kw_only=True)
class Answered:
    """What a caller saw."""

    status: int
    text: str = ""
    finish: str | None = None
    done: bool = False
    code: str | None = None
    usage: dict[str, object] | None = None
    ids: set[object] = field(default_factory=set)
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    cost_usd: str | None = None


@dataclass(kw_only=True)
class Rig:
    """An API, a worker, two providers."""

    stack: Stack
    api: Child
    vendor: Upstream
    http: httpx.Client

    def tells_well(self) -> None:
        """Let both providers tell the story well, until told otherwise."""
        self.vendor.forget_scripts()
        self.vendor.requests.clear()
        self.vendor.always("alpha", Story())
        self.vendor.always("beta", Story())

    def asked(self) -> tuple[int, int]:
        """How often each of the two was asked."""
        return len(self.vendor.asked("alpha")), len(self.vendor.asked("beta"))


@contextmanager
def running_rig(home: Path) -> Iterator[Rig]:
    """Yield the processes with their providers; all ends with the block."""
    url = f"sqlite:///{home}/sluiceway.db"
    migrate(url)
    routes = "".join(
        ROUTE.format(shape=shape, recovery=recovery, targets=targets)
        for shape, targets in TARGETS.items()
        for recovery in RECOVERIES
    )
    with running_vendor() as vendor:
        config = CONFIG.format(
            alpha=vendor.base_url("alpha"),
            beta=vendor.base_url("beta"),
            claude=vendor.base_url("claude").removesuffix("/v1"),
            native=vendor.base_url("native"),
            key=KEY,
            wait=WAIT_S,
            routes=routes,
        )
        with running_stack(home, config, database_url=url) as stack:
            worker, api = stack.worker(), stack.api()
            worker.wait_for_event("worker.started")
            with httpx.Client(
                base_url=api.url,
                headers={"authorization": f"Bearer {KEY}"},
                timeout=30,
                trust_env=False,
            ) as http:
                yield Rig(stack=stack, api=api, vendor=vendor, http=http)


_numbers = count(1)


def body_of(model: str, **more: object) -> dict[str, object]:
    """A question. Each has targets of its own: what is learnt of one is forgotten with it."""
    if "-" in model:
        model = f"{model}/{next(_numbers)}"
    return {"model": model, "messages": [{"role": "user", "content": "tell"}], **more}


def streamed(rig: Rig, model: str, *, request_id: str = "", **more: object) -> Answered:
    """Ask for a stream and read all of it."""
    body = body_of(model, stream=True, stream_options={"include_usage": True}, **more)
    headers = {"x-request-id": request_id} if request_id else {}
    answer = rig.http.post("/v1/chat/completions", json=body, headers=headers)
    seen = Answered(status=answer.status_code, headers=answer.headers)
    if answer.status_code != 200:
        seen.code = answer.json()["error"]["code"]
        return seen
    assert answer.text.endswith("\n\n")
    for event in answer.text.rstrip("\n").split("\n\n"):
        if event.startswith(":"):
            continue
        assert not seen.done, f"after the end mark: {event}"
        assert seen.code is None, f"after an error: {event}"
        take(seen, "\n".join(line.removeprefix("data: ") for line in event.split("\n")))
    return seen


def take(seen: Answered, data: str) -> None:
    """Add one event to what was seen."""
    if data == "[DONE]":
        seen.done = True
        return
    piece = json.loads(data)
    if "error" in piece:
        seen.code = piece["error"]["code"]
        return
    seen.ids.add((piece["id"], piece["model"], piece["created"]))
    seen.usage = piece.get("usage") or seen.usage
    seen.cost_usd = piece.get("sluiceway", {}).get("cost_usd", seen.cost_usd)
    for choice in piece["choices"]:
        seen.text += choice["delta"].get("content") or ""
        assert seen.finish is None or not choice["delta"].get("content")
        seen.finish = choice["finish_reason"] or seen.finish


def asked_whole(rig: Rig, model: str, *, request_id: str = "") -> Answered:
    """Ask for a whole answer."""
    headers = {"x-request-id": request_id} if request_id else {}
    answer = rig.http.post("/v1/chat/completions", json=body_of(model), headers=headers)
    return whole(answer.status_code, answer.json(), answer.headers)


def whole(code: int, body: dict[str, object], headers: httpx.Headers) -> Answered:
    seen = Answered(status=code, headers=headers)
    if code == 200:
        seen.text = body["choices"][0]["message"]["content"]
        seen.finish = body["choices"][0]["finish_reason"]
    else:
        seen.code = body["error"]["code"]
    return seen


def as_job(rig: Rig, model: str, deadline_s: float = 20.0) -> tuple[Answered, dict[str, object]]:
    """Ask later; what a job's result says, and the job."""
    headers = {"prefer": "respond-async", "x-sluiceway-deadline": str(time.time() + deadline_s)}
    accepted = rig.http.post("/v1/chat/completions", json=body_of(model), headers=headers)
    assert 202 == accepted.status_code, accepted.text
    job = rig.http.get(f"{accepted.headers['location']}?wait=30").json()
    result = rig.http.get(f"{accepted.headers['location']}/result")
    return whole(result.status_code, result.json(), result.headers), job


SLOW = 0.002
"""Between two tokens, so that the first are out before the stream breaks."""
CUT = Story(piece_s=SLOW, cut_after=40)
STALLED = Story(piece_s=SLOW, stall_after=20)
ODD = Story(piece_s=SLOW, odd_at=10)
SILENT = Answer(before_head="silence")
RESET = Answer(before_head="reset")
LIMITED = status(429, retry_after="1")
WORDS = events(TOKENS)
TOO_LONG = {
    "message": "This model's maximum context length is 8192 tokens.",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "context_length_exceeded",
}


def anthropic(kind: str, **fields: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (
        kind.encode(),
        msgspec.json.encode({"type": kind, **fields}),
    )


def claude_tells(tokens: tuple[str, ...], *, whole: bool = True, **how: object) -> Answer:
    """The story in Anthropic's words."""
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
        "content": [], "stop_reason": None, "stop_sequence": None,
        "usage": {"input_tokens": 900, "output_tokens": 1},
    }  # fmt: skip
    block = {"type": "text", "text": ""}
    end = [
        anthropic("content_block_stop", index=0),
        anthropic("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 20}),
        anthropic("message_stop"),
    ]
    return sse(
        [
            anthropic("message_start", message=message),
            anthropic("content_block_start", index=0, content_block=block),
            *(
                anthropic(
                    "content_block_delta", index=0, delta={"type": "text_delta", "text": token}
                )
                for token in tokens
            ),
            *(end if whole else []),
        ],
        **how,
    )
