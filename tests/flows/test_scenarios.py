"""What providers do to their callers, one scenario each: who is asked, and what is answered.

As a stream that may be recovered, as one that may not, as a whole answer, and as a job.
"""

import gzip
import json
import time
from email.utils import formatdate

import msgspec
import pytest

from tests.fakes.scripted import ROLE, TEXT, TOKENS, Story
from tests.fakes.upstream import DONE, JSON, SSE, Answer, Script, byte_by_byte, chunk, sse, status
from tests.flows.scenes import (
    CUT,
    LIMITED,
    ODD,
    RECOVERIES,
    RESET,
    SILENT,
    SLOW,
    STALLED,
    TOO_LONG,
    WAIT_S,
    WORDS,
    Rig,
    as_job,
    asked_whole,
    streamed,
)


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What the providers do, and what comes of it.

    `alpha` and `beta` are their next answers, one after the other; a last one that stands in
    `always` is given for ever. `asked` counts the calls to each. `rescued`: what recovery makes of
    it, `(text, calls to each)`, where that is something else than without it.
    """

    alpha: tuple[Script, ...] = ()
    beta: tuple[Script, ...] = ()
    always: dict[str, Script] = {}
    route: str = "pair"
    text: str = TEXT
    code: str | None = None
    status: int = 200
    asked: tuple[int, int] = (1, 0)
    rescued: tuple[int, int] | None = None
    whole: tuple[int, int] | None = None
    """Calls for a whole answer, where they are others."""


FILTERED = {
    "message": "The response was filtered.",
    "type": None,
    "param": "prompt",
    "code": "content_filter",
}

SCENES = {
    "429 once": Scene(alpha=(LIMITED,), asked=(1, 1)),
    "429 once, alone": Scene(route="alone", alpha=(LIMITED,), asked=(2, 0)),
    "429 for ever": Scene(
        always={"alpha": status(429, retry_after="60"), "beta": status(429, retry_after="30")},
        text="", code="rate_limit_exceeded", status=429, asked=(1, 1),
    ),
    "500 once": Scene(alpha=(status(500),), asked=(2, 0)),
    "503 for ever": Scene(
        always={"alpha": status(503), "beta": status(503)},
        text="", code="overloaded", status=503, asked=(1, 2),
    ),
    "reset before the head": Scene(alpha=(RESET,), asked=(2, 0)),
    "silence": Scene(alpha=(SILENT,), asked=(1, 1)),
    "silence, alone": Scene(
        route="alone", alpha=(SILENT,), text="", code="upstream_timeout", status=504, asked=(1, 0)
    ),
    "slow first token": Scene(alpha=(Story(first_s=3 * WAIT_S),), asked=(1, 1), whole=(1, 0)),
    "cut after 40 of 60": Scene(
        alpha=(CUT,), text="".join(TOKENS[:40]), code="stream_interrupted",
        asked=(1, 0), rescued=(1, 1), whole=(2, 0),
    ),
    "stall after 20": Scene(
        alpha=(STALLED,), text="".join(TOKENS[:20]), code="stream_interrupted",
        asked=(1, 0), rescued=(1, 1), whole=(1, 1),
    ),
    "malformed tenth event": Scene(
        alpha=(ODD,), text="".join(TOKENS[:10]), code="stream_interrupted",
        asked=(1, 0), rescued=(1, 1), whole=(1, 1),
    ),
    "no end mark": Scene(alpha=(Story(piece_s=SLOW, done=False),)),
    "context length exceeded": Scene(
        alpha=(status(400, TOO_LONG),), text="", code="context_length_exceeded", status=400
    ),
    "content filter": Scene(
        alpha=(status(400, FILTERED),), text="", code="content_filter", status=400
    ),
    "cut, and the fallback refuses a prefill": Scene(
        route="able", alpha=(CUT,), always={"beta": Story(prefill="refuses")},
        text="".join(TOKENS[:40]), code="stream_interrupted",
        asked=(1, 0), rescued=(1, 2), whole=(2, 0),
    ),
    "cut, and the fallback takes a prefill": Scene(
        route="able", alpha=(CUT,), always={"beta": Story(prefill="takes")},
        text="".join(TOKENS[:40]), code="stream_interrupted",
        asked=(1, 0), rescued=(1, 1), whole=(2, 0),
    ),
}  # fmt: skip


def play(rig: Rig, scene: Scene) -> None:
    rig.vendor.script("alpha", *scene.alpha)
    rig.vendor.script("beta", *scene.beta)
    for provider, answer in scene.always.items():
        rig.vendor.always(provider, answer)


@pytest.mark.parametrize("recovery", RECOVERIES)
@pytest.mark.parametrize("name", SCENES)
def test_streams(rig: Rig, name: str, recovery: str):
    """Recovery gives the whole answer wherever there is one to be had, once, and from one voice."""
    scene = SCENES[name]
    play(rig, scene)

    seen = streamed(rig, f"{scene.route}-{recovery}")

    if recovery == "off" or scene.rescued is None:
        expected, asked = (scene.status, scene.text, scene.code), scene.asked
    else:
        expected, asked = (200, TEXT, None), scene.rescued
        if recovery == "restart":
            asked = (1, 1)
    assert expected == (seen.status, seen.text, seen.code)
    assert asked == rig.asked()
    is_whole = expected[2] is None
    assert (is_whole, "stop" if is_whole else None) == (seen.done, seen.finish)
    if seen.status == 200:
        assert 1 == len(seen.ids)


@pytest.mark.parametrize("name", SCENES)
def test_whole_answers_and_jobs(rig: Rig, name: str):
    """The same calls and the same answer, now or later; but a job waits where a caller cannot."""
    scene = SCENES[name]
    play(rig, scene)
    for_ever = 1.5 if name in {"429 for ever", "503 for ever"} else None

    now = asked_whole(rig, f"{scene.route}-off")
    asked = rig.asked()
    rig.tells_well()
    play(rig, scene)
    later, job = as_job(rig, f"{scene.route}-off", for_ever or 20.0)

    failed = scene.code not in {None, "stream_interrupted"}
    assert (scene.whole or scene.asked) == asked
    expected = (scene.status, "", scene.code) if failed else (200, TEXT, None)
    assert expected == (now.status, now.text, now.code)
    if for_ever is not None:
        expected = (504, "", "expired")  # its deadline came before its provider
    elif name == "silence, alone":
        expected = (200, TEXT, None)  # it asked again, when the silence was over
    else:
        assert asked == rig.asked()
    assert expected == (later.status, later.text, later.code)
    assert sum(rig.asked()) == len(job["attempts"])


HTML = Answer(headers={"content-type": "text/html"}, pieces=(b"<html>busy</html>",))
BOMB = gzip.compress(b"data: " + b"0" * 50_000_000)
ERROR_WITHIN = {"error": {"message": "no", "type": "server_error", "code": None}}
PLAIN = chunk({"content": "x"})
HUGE = chunk({"content": "y" * (2 * 1024 * 1024 + 1)})


def lines(end: bytes) -> tuple[bytes, ...]:
    """The story with other line ends."""
    return tuple(piece.replace(b"\n", end) for piece in WORDS)


def interim(body: bytes, times: int) -> bytes:
    """A whole exchange with as many interim answers before the real one."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    return b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * times + head + body


def chunked_oddly(body: bytes, size: bytes | None = None) -> bytes:
    """One chunk with an extension, and a trailer."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    size = b"%x" % len(body) if size is None else size
    return head + b"\r\n" + size + b";name=value\r\n" + body + b"\r\n0\r\nx-late: 1\r\n\r\n"


def promising(body: bytes, *, spare: int) -> bytes:
    """A body of another length than its head says."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
    return head % (len(body) + spare) + body


SOUND: dict[str, Script] = {
    "one byte at a time": byte_by_byte(sse(WORDS)),
    "CR": sse(lines(b"\r")),
    "CRLF": sse(lines(b"\r\n")),
    "events without data": sse([b"event: ping\n\n", b"data:\n\n", b"id: 7\n\n", *WORDS]),
    "comments between": sse([piece for word in WORDS for piece in (b": hi\n\n", word)]),
    "interim answers": Answer(raw=interim(b"".join(WORDS), 5)),
    "closed after the end mark": sse(WORDS, framing="close"),
    "closed without an end mark": sse(WORDS[:-1], framing="close"),
    "no end mark, and it stays open": sse(WORDS[:-1], end="stall"),
    "an empty choice list first": sse([chunk(choices=[]), *WORDS]),
    "finish and content in one event": sse([*WORDS[:-3], chunk({"content": TOKENS[-1]}, "stop")]),
    "without a space after data:": sse([w.replace(b"data: ", b"data:") for w in WORDS]),
    "a mark of byte order": sse([b"\xef\xbb\xbf", *WORDS]),
    "an event over several lines": sse(
        [w.replace(b',"choices"', b'\ndata: ,"choices"') for w in WORDS]
    ),
    "a long list of headers": sse(
        WORDS, headers={**SSE, **{f"x-{n}": "v" * 50 for n in range(60)}}
    ),
    "HTTP/1.0": Answer(
        raw=b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + b"".join(WORDS)
    ),
    "chunk extensions and trailers": Answer(raw=chunked_oddly(b"".join(WORDS))),
    "more than was promised": Answer(raw=promising(b"".join(WORDS) + b"data: late", spare=-10)),
    "events after the end mark": sse([*WORDS, PLAIN, DONE]),
    "another media type": sse(WORDS, headers={"content-type": "application/octet-stream"}),
}


@pytest.mark.parametrize("name", SOUND)
def test_odd_but_sound(rig: Rig, name: str):
    """A stream that says it all is whole, in whatever form it comes; nobody else is asked."""
    rig.vendor.script("alpha", SOUND[name])
    began_s = time.monotonic()

    seen = streamed(rig, "pair-off")

    assert (TEXT, "stop", True, None) == (seen.text, seen.finish, seen.done, seen.code)
    assert (1, 0) == rig.asked()
    assert time.monotonic() - began_s < 3


@pytest.mark.parametrize("mark", ["\u2028", "\u0085", "\x0b", "\x1c", "\u2029"])
def test_only_line_ends_end_lines(rig: Rig, mark: str):
    """What Unicode calls a line end is content."""
    raw = chunk({"content": "a?b"}).replace(
        b"?", mark.encode() if mark > " " else b"\\u%04x" % ord(mark)
    )
    rig.vendor.script("alpha", sse([ROLE, raw, chunk({}, "stop"), DONE]))

    assert f"a{mark}b" == streamed(rig, "pair-off").text


ELSEWHERE: dict[str, Script] = {
    "comments only": sse([b": ping\n\n"] * 30, gap_s=0.1),
    "role only": sse([ROLE], end="stall"),
    "empty deltas only": sse([chunk({"content": ""})] * 30, gap_s=0.1),
    "HTML with 200": HTML,
    "HTML called a stream": sse([b"<html>busy</html>"]),
    "gzip bomb": Answer(headers={**SSE, "content-encoding": "gzip"}, pieces=(BOMB,)),
    "an encoding not asked for": Answer(headers={**SSE, "content-encoding": "br"}, pieces=(b"xx",)),
    "an error body with 200": Answer(pieces=(json.dumps(ERROR_WITHIN).encode(),)),
    "an error event at once": sse([b"data: " + json.dumps(ERROR_WITHIN).encode() + b"\n\n"]),
    "529": status(529),
    "an event above 2 MiB": sse([HUGE, *WORDS]),
    "an end mark alone": sse([DONE]),
    "nothing at all": sse([]),
    "an empty finish": sse([ROLE, DONE]),
    "a redirect": status(307, location="http://127.0.0.1:1/"),
    "not HTTP": Answer(raw=b"hello\r\n\r\n"),
    "half a head": Answer(raw=b"HTTP/1.1 200 OK\r\ncontent-ty"),
    "401": status(401),
    "403": status(403),
    "404": status(404),
    "408": status(408),
    "a whole answer": Answer(
        pieces=(b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}',)
    ),
    "204": Answer(status=204, pieces=()),
    "200 and nothing": Answer(pieces=()),
    "a stream of nothing, promised more": Answer(raw=promising(b": hi\n\n", spare=1000)),
    "a chunk that is none": Answer(raw=chunked_oddly(b"", size=b"zz")),
    "a length that is none": Answer(raw=b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n"),
    "two lengths": Answer(
        raw=b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!"
    ),
    "402": status(402),
    "409": status(409),
    "an early cut": sse([ROLE], end="reset"),
    "endless interim answers": Answer(raw=interim(b"", 3000)[:120_000]),
    "a giant head": Answer(raw=b"HTTP/1.1 200 OK\r\nx: " + b"y" * 400_000),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_not_an_answer(rig: Rig, name: str):
    """Before any content everything can be asked elsewhere, and nothing of it is shown."""
    rig.vendor.always("alpha", ELSEWHERE[name])

    seen = streamed(rig, "pair-off")

    assert (TEXT, "stop", True, None) == (seen.text, seen.finish, seen.done, seen.code)
    alpha, beta = rig.asked()
    assert 1 == beta
    assert alpha <= 2


BROKEN: dict[str, Script] = {
    "an error event": sse(
        [*WORDS[:5], b"data: " + json.dumps(ERROR_WITHIN).encode() + b"\n\n"], gap_s=SLOW
    ),
    "an event above 2 MiB": sse([*WORDS[:5], HUGE], gap_s=SLOW),
    "an end mark without a finish": sse([*WORDS[:5], DONE], gap_s=SLOW),
    "comments only": sse([*WORDS[:5], *[b": ping\n\n"] * 12], gap_s=0.1),
    "empty deltas only": sse([*WORDS[:5], *[chunk({"content": ""})] * 12], gap_s=0.1),
    "an end without a finish": sse(WORDS[:5], gap_s=SLOW),
    "half an event": sse([*WORDS[:5], b'data: {"id":"x'], gap_s=SLOW),
    "bad UTF-8": sse([*WORDS[:5], PLAIN.replace(b"x", b"\xff\xfe")], gap_s=SLOW),
    "a closed connection": sse(WORDS[:5], framing="close", gap_s=SLOW),
    "fewer bytes than promised": sse(WORDS[:5], framing="length", end="eof", gap_s=SLOW),
    "a failed finish": sse([*WORDS[:5], chunk({}, "error"), DONE], gap_s=SLOW),
}


@pytest.mark.parametrize("recovery", ["off", "continue"])
@pytest.mark.parametrize("name", BROKEN)
def test_broken_in_the_middle(rig: Rig, name: str, recovery: str):
    """It ends in an error event, or somebody else tells the rest."""
    rig.vendor.always("alpha", BROKEN[name])

    seen = streamed(rig, f"pair-{recovery}")

    if recovery == "off":
        assert ("".join(TOKENS[:4]), None, False) == (seen.text, seen.finish, seen.done)
        assert seen.code is not None
        assert (1, 0) == rig.asked()
    else:
        assert (TEXT, "stop", True, None) == (seen.text, seen.finish, seen.done, seen.code)
        assert (1, 1) == rig.asked()
        assert 1 == len(seen.ids)


def test_down_for_a_while_then_healthy(rig: Rig):
    """Twenty callers notice nothing; the target is left alone, tried again, taken back."""
    rig.vendor.script("alpha", *[status(500)] * 3)

    answers = []
    for _ in range(20):
        answers.append(asked_whole(rig, "down"))
        time.sleep(0.05)

    assert [TEXT] * 20 == [answer.text for answer in answers]
    attempts = [answer.headers["x-sluiceway-attempts"] for answer in answers]
    assert ["2"] * 3 + ["1"] * 17 == attempts
    providers = [answer.headers["x-sluiceway-provider"] for answer in answers]
    assert ["beta"] * 5 == providers[:5]
    assert "alpha" == providers[-1]


HINTS = {
    "milliseconds": {"retry-after-ms": "300", "retry-after": "90"},
    "seconds": {"retry-after": "1"},
    "a date": {},
}


@pytest.mark.parametrize("name", HINTS)
def test_hints_are_honoured(rig: Rig, name: str):
    """The only target is asked again when it said, not before."""
    headers = HINTS[name]
    least_s = {"milliseconds": 0.3, "seconds": 1.0, "a date": 0.0}[name]
    if name == "a date":
        headers = {"retry-after": formatdate(time.time() + 1.4, usegmt=True)}
    rig.vendor.script("alpha", Answer(status=429, headers={**JSON, **headers}, pieces=(b"{}",)))
    began_s = time.monotonic()

    assert TEXT == streamed(rig, "alone-off").text
    assert least_s <= time.monotonic() - began_s < least_s + 2
    assert (2, 0) == rig.asked()
