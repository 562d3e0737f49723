"""Another target answers, a cut stream never looks whole, and every attempt stands in the books."""

import http.client
import json
import time
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI

from shared.chat.usage import MOST_TOKENS
from tests.fakes.stack import eventually
from tests.fakes.upstream import (
    Answer,
    Upstream,
    chunk,
    events,
    says,
    sse,
    status,
    streams,
)
from tests.flows.conftest import KEY, OTHER_KEY, Line

HELLO = [{"role": "user", "content": "hello"}]
SILENT = Answer(before_head="silence")
ROLE = chunk({"role": "assistant", "content": ""})
WORD = chunk({"content": "half"})

BEFORE_CONTENT = {
    "500": (status(500), "upstream_unavailable", 500),
    "429": (status(429, retry_after="60"), "rate_limit_exceeded", 429),
    "401": (status(401), "upstream_credential", 401),
    "silent": (SILENT, "upstream_timeout", None),
    "reset": (Answer(before_head="reset"), "upstream_unavailable", None),
    "garbage": (Answer(pieces=(b"<html>busy</html>",)), "upstream_malformed", None),
}
STREAMS_BEFORE_CONTENT = {
    **BEFORE_CONTENT,
    "role only": (sse([ROLE], end="stall"), "upstream_timeout", None),
    "pings only": (sse([b": ping\n\n"] * 20, gap_s=0.1), "upstream_timeout", None),
    "cut": (sse([ROLE], end="reset"), "upstream_unavailable", None),
    "empty": (sse([b"data: [DONE]\n\n"]), "upstream_malformed", None),
    "error event": (
        sse([b'data: {"error": {"message": "no", "type": "server_error"}}\n\n']),
        "upstream_unavailable",
        None,
    ),
}
GAP_S = 0.05
"""Between events, so that content has gone out before the cut: else another target answers."""

CUTS = {
    "reset": sse([ROLE, WORD], end="reset"),
    "eof": sse([ROLE, WORD], end="eof", gap_s=GAP_S),
    "orderly without an end mark": sse([ROLE, WORD, b": bye\n\n"], gap_s=GAP_S),
    "closed without an end mark": sse([ROLE, WORD, b": bye\n\n"], framing="close", gap_s=GAP_S),
    "done without a finish": sse([ROLE, WORD, b"data: [DONE]\n\n"], gap_s=GAP_S),
    "stalled": sse([ROLE, WORD], end="stall"),
    "pings only": sse([ROLE, WORD] + [b": ping\n\n"] * 20, gap_s=0.1),
    "error event": sse(
        [ROLE, WORD, b'data: {"error": {"message": "overloaded"}}\n\n'], gap_s=GAP_S
    ),
    "garbage": sse([ROLE, WORD, b"data: {nonsense\n\n"], gap_s=GAP_S),
}


def outcomes(rows: list[dict[str, object]]) -> list[tuple[object, ...]]:
    return [(row["provider"], row["outcome"], row["code"], row["status_code"]) for row in rows]


@pytest.mark.parametrize("case", BEFORE_CONTENT)
def test_the_second_target_answers(line: Line, client: OpenAI, request_id: str, case: str):
    """A caller never learns that the first one was down; the books do."""
    failure, code, status_code = BEFORE_CONTENT[case]
    line.vendor.script("alpha", failure)

    raw = client.chat.completions.with_raw_response.create(
        model="pair", messages=HELLO, extra_headers={"x-request-id": request_id}
    )

    assert "hello" == raw.parse().choices[0].message.content
    assert ("beta", "2") == (
        raw.headers["x-sluiceway-provider"],
        raw.headers["x-sluiceway-attempts"],
    )
    rows = line.stack.wait_for_ledger(request_id, 2)
    assert [
        ("alpha", "failed", code, status_code),
        ("beta", "succeeded", None, 200),
    ] == outcomes(rows)
    assert 2_000_000 == rows[1]["cost_nanousd"]


@pytest.mark.behaviour(123)
@pytest.mark.parametrize("case", STREAMS_BEFORE_CONTENT)
def test_the_second_target_streams(line: Line, client: OpenAI, request_id: str, case: str):
    """Until there is content nothing has been shown, so all of it can fall back."""
    failure, code, status_code = STREAMS_BEFORE_CONTENT[case]
    line.vendor.script("alpha", failure)

    stream = client.chat.completions.create(
        model="pair", messages=HELLO, stream=True, extra_headers={"x-request-id": request_id}
    )

    text = "".join(piece.choices[0].delta.content or "" for piece in stream)
    assert "hello" == text
    assert [
        ("alpha", "failed", code, status_code),
        ("beta", "succeeded", None, 200),
    ] == outcomes(line.stack.wait_for_ledger(request_id, 2))


@pytest.mark.behaviour(142)
def test_the_only_target_is_tried_again(line: Line, client: OpenAI, request_id: str):
    line.vendor.script("alpha", status(500))

    answer = client.chat.completions.create(
        model="stubborn", messages=HELLO, extra_headers={"x-request-id": request_id}
    )

    assert "hello" == answer.choices[0].message.content
    assert ["failed", "succeeded"] == [
        row["outcome"] for row in line.stack.wait_for_ledger(request_id, 2)
    ]


def test_when_all_fail_the_error_lists_the_attempts(line: Line, client: OpenAI, request_id: str):
    """In different ways: one code for the mix, and who failed how."""
    line.vendor.script("alpha", status(500))
    line.vendor.script("beta", status(429, retry_after="3"))

    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(
            model="pair", messages=HELLO, extra_headers={"x-request-id": request_id}
        )

    error = caught.value
    assert (502, "all_targets_failed") == (error.status_code, error.code)
    assert request_id == error.request_id
    assert isinstance(error.body, dict)
    assert [("alpha", "server_error", 500), ("beta", "rate_limited", 429)] == [
        (one["provider"], one["kind"], one["status_code"]) for one in error.body["attempts"]
    ]
    rows = line.stack.wait_for_ledger(request_id, 2)
    assert [one["id"] for one in error.body["attempts"]] == [row["attempt_id"] for row in rows]


@pytest.mark.behaviour(132)
def test_when_all_limit_the_caller_is_limited(line: Line, client: OpenAI):
    """With the smallest of the hints."""
    line.vendor.script("alpha", status(429, retry_after="50"))
    line.vendor.script("beta", status(429, retry_after="20"))

    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="pair", messages=HELLO)

    assert "20" == caught.value.response.headers["retry-after"]


def test_the_callers_own_deadline_is_kept(line: Line, client: OpenAI, request_id: str):
    """`X-Sluiceway-Timeout` ends the chain, and says that it was the caller's."""
    line.vendor.always("alpha", SILENT)
    started_s = time.monotonic()

    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(
            model="slow",
            messages=HELLO,
            extra_headers={"x-request-id": request_id, "x-sluiceway-timeout": "0.4"},
        )

    assert 0.4 <= time.monotonic() - started_s < 1.5
    assert (504, "deadline_exceeded") == (caught.value.status_code, caught.value.code)
    assert "false" == caught.value.response.headers["x-should-retry"]
    assert ["failed"] == [row["outcome"] for row in line.stack.wait_for_ledger(request_id)]


@pytest.mark.behaviour(121, 124, 125)
@pytest.mark.parametrize("case", CUTS)
def test_a_cut_stream_never_looks_whole(line: Line, client: OpenAI, request_id: str, case: str):
    """The SDK raises; nobody else answers, for half of the answer is out."""
    line.vendor.script("alpha", CUTS[case])
    stream = client.chat.completions.create(
        model="pair", messages=HELLO, stream=True, extra_headers={"x-request-id": request_id}
    )

    seen = []
    with pytest.raises(openai.APIError) as caught:
        seen.extend(stream)

    assert "half" == "".join(piece.choices[0].delta.content or "" for piece in seen)
    assert not any(piece.choices[0].finish_reason for piece in seen)
    assert "stream_interrupted" == caught.value.code
    rows = line.stack.wait_for_ledger(request_id)
    assert ["interrupted"] == [row["outcome"] for row in rows]
    assert rows[0]["estimated"]
    assert int(str(rows[0]["cost_nanousd"])) > 0


@pytest.mark.behaviour(121)
def test_a_cut_stream_has_no_end_mark(line: Line):
    """The error event is the last thing there is."""
    line.vendor.script("alpha", CUTS["reset"])

    answer = httpx.post(
        f"{line.api.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {KEY}"},
        json={"model": "alpha", "messages": HELLO, "stream": True},
    )

    last = answer.text.rstrip().split("\n\n")[-1]
    assert last.startswith('data: {"error":')
    assert "[DONE]" not in answer.text


def closed_within(vendor: Upstream, limit_s: float, since_s: float) -> None:
    """Wait until the gateway's newest connection to the vendor is closed."""
    connection = vendor.connections[vendor.requests[-1].connection]
    closed_at_s = eventually(
        lambda: connection.closed_at_s, within_s=limit_s + 1, what="the upstream connection"
    )
    assert closed_at_s is not None
    assert closed_at_s - since_s < limit_s


@pytest.mark.behaviour(143, 159)
def test_a_stream_that_is_left_is_left_upstream_too(line: Line, client: OpenAI, request_id: str):
    """Within a second: an abandoned stream is billed to its end."""
    line.vendor.script("alpha", streams(*["word "] * 200, gap_s=0.05))
    stream = client.chat.completions.create(
        model="slow", messages=HELLO, stream=True, extra_headers={"x-request-id": request_id}
    )
    seen = [next(stream) for _ in range(3)]

    stream.close()

    closed_within(line.vendor, 1.0, time.monotonic())
    assert 3 == len(seen)
    rows = line.stack.wait_for_ledger(request_id)
    assert [("alpha", "cancelled", None, None)] == outcomes(rows)
    assert rows[0]["estimated"]
    assert int(str(rows[0]["output_tokens"])) >= 1


@pytest.mark.behaviour(144, 145)
@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_leaves_before_the_answer_ends_the_call(
    line: Line, client: OpenAI, request_id: str, stream
):
    line.vendor.script("alpha", SILENT)

    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(
            model="slow",
            messages=HELLO,
            stream=stream,
            timeout=0.3,
            extra_headers={"x-request-id": request_id},
        )

    closed_within(line.vendor, 1.0, time.monotonic())
    rows = line.stack.wait_for_ledger(request_id)
    assert [("alpha", "cancelled", None, None)] == outcomes(rows)
    assert rows[0]["estimated"]


def test_a_caller_who_leaves_during_a_fallback_leaves_two_rows(
    line: Line, client: OpenAI, request_id: str
):
    line.vendor.script("alpha", status(500))
    line.vendor.script("beta", SILENT)

    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(
            model="pair",
            messages=HELLO,
            timeout=0.3,
            extra_headers={"x-request-id": request_id},
        )

    assert [
        ("alpha", "failed", "upstream_unavailable", 500),
        ("beta", "cancelled", None, None),
    ] == outcomes(line.stack.wait_for_ledger(request_id, 2))


def test_an_api_killed_in_the_middle_leaves_lost_rows(line: Line, request_id: str):
    """Kill -9 with two calls under way: each stands once, as lost, at its estimate."""
    line.vendor.always("alpha", SILENT)
    killed = line.stack.api()
    ids = [f"{request_id}-whole", f"{request_id}-stream"]
    waiting = [_ask(killed.port, one, stream=one.endswith("stream")) for one in ids]
    eventually(lambda: _opened(line, killed.owner) >= 2, what="openings in the spool")

    killed.kill()
    for connection in waiting:
        connection.close()
    restarted = line.stack.api()

    for one in ids:
        rows = line.stack.wait_for_ledger(one)
        assert [("alpha", "lost", "internal_error", None)] == outcomes(rows)
        assert rows[0]["estimated"]
        assert int(str(rows[0]["cost_nanousd"])) > 0
    eventually(lambda: not _spools(line, killed.owner), what="the dead process's spool")
    assert 0 == restarted.stop()
    assert [1, 1] == [len(line.stack.ledger(one)) for one in ids]


def _spools(line: Line, owner: str) -> list[Path]:
    return list((line.stack.data_dir / "spool").glob(f"{owner}-*.spool"))


def _opened(line: Line, owner: str) -> int:
    return sum(
        text.startswith("O")
        for spool in _spools(line, owner)
        for text in spool.read_text().splitlines()
    )


def _ask(port: int, request_id: str, *, stream: bool) -> http.client.HTTPConnection:
    """Send a call and do not wait for its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = json.dumps({"model": "slow", "messages": HELLO, "stream": stream})
    headers = {
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "x-request-id": request_id,
    }
    connection.request("POST", "/v1/chat/completions", body, headers)
    return connection


def test_usage_totals_are_the_ledgers(line: Line, request_id: str):
    """Two requests of which one took two attempts; only this tenant's."""
    line.vendor.script("alpha", status(500))
    with line.client(OTHER_KEY) as client:
        for model in ("pair", "alpha"):
            client.chat.completions.create(
                model=model, messages=HELLO, extra_headers={"x-request-id": f"{request_id}-{model}"}
            )
    line.stack.wait_for_ledger(f"{request_id}-pair", 2)
    line.stack.wait_for_ledger(f"{request_id}-alpha", 1)

    usage = httpx.get(
        f"{line.api.url}/v1/usage", headers={"authorization": f"Bearer {OTHER_KEY}"}
    ).json()

    assert {
        "tenant": "other",
        "requests": 2,
        "attempts": 3,
        "input_tokens": 2000,
        "output_tokens": 1000,
        "cost_usd": "0.004",
        "cost_nanousd": 4_000_000,
        "unpriced_attempts": 0,
    }.items() <= usage.items()
    assert {("alpha", 2), ("beta", 1)} == {
        (one["provider"], one["attempts"]) for one in usage["by_model"]
    }


@pytest.mark.parametrize("prefer", ["", "respond-async, wait=20"])
def test_absurd_counts_spoil_no_books(line: Line, client: OpenAI, request_id: str, prefer: str):
    """A provider, or a caller, may write any number; a call is recorded all the same.

    What is no number is made up.
    """
    absurd = {"prompt_tokens": 10**30, "completion_tokens": -5, "total_tokens": 1e300}
    line.vendor.script("alpha", says("odd", usage=absurd))

    answer = client.chat.completions.create(
        model="alpha",
        messages=HELLO,
        max_tokens=10**30,
        extra_headers={"x-request-id": request_id, **({"prefer": prefer} if prefer else {})},
    )

    assert "odd" == answer.choices[0].message.content
    (row,) = line.stack.wait_for_ledger(request_id)
    assert ("succeeded", MOST_TOKENS, 1) == (
        row["outcome"],
        row["input_tokens"],
        row["estimated"],
    )
    assert 0 < row["output_tokens"] < 1_000


def test_tags_and_users_stand_in_the_ledger(line: Line, client: OpenAI, request_id: str):
    client.chat.completions.create(
        model="alpha",
        messages=HELLO,
        user="u-17",
        extra_headers={"x-request-id": request_id, "x-sluiceway-tags": "team=blue,run=7"},
    )

    row = line.stack.wait_for_ledger(request_id)[0]
    assert "u-17" == row["user"]
    assert '{"team":"blue","run":"7"}' == str(row["tags"]).replace(" ", "")
    assert "file:acme/ci" == row["key_id"]


def test_a_bare_stream_of_events_is_whole(line: Line, client: OpenAI):
    """The control of the cuts above: the same events with finish and end mark raise nothing."""
    line.vendor.script("alpha", sse(events(["half"])))

    stream = client.chat.completions.create(model="alpha", messages=HELLO, stream=True)

    assert "half" == "".join(piece.choices[0].delta.content or "" for piece in stream)
