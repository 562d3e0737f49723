"""Whatever a server sends, and however it is cut: one answer, or one word on why there is none."""

from itertools import pairwise, zip_longest

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.errors import UpstreamError
from shared.providers.http1_answer import Answer, Headers
from shared.providers.http1_connection import READ_AHEAD_BYTES, PlainConnection
from shared.providers.http1_parse import MAX_BARREN_BYTES
from shared.providers.http1_request import MAX_HEADS, Heads
from tests.fakes.http1_line import ORIGIN, POST, Line
from tests.fakes.pipe import PipeTransport


class Outcome(msgspec.Struct, frozen=True):
    """All that a caller can learn, and what became of the connection."""

    status: int
    headers: dict[str, str]
    body: bytes
    ended: bool
    failure: str | None
    kept: bool


def outcome(*pieces, request=POST) -> Outcome:
    with Line(request) as line:
        line.hear(*pieces)
        line.end()
        answer = line.answer
        failure = answer.failure
        return Outcome(
            answer.status,
            dict(answer.headers),
            answer.take(),
            answer.ended,
            None if failure is None else f"{failure.kind.value}: {failure.message}",
            bool(line.home.free),
        )


def whole(body=b"{}", status=200, *, kept=True, **headers):
    return Outcome(status, headers, body, ended=True, failure=None, kept=kept)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
TWO = b"content-length: 2\r\n\r\n{}"
SIZED = {"content-length": "2"}
IN_CHUNKS = {"transfer-encoding": "chunked"}

ANSWERS = {
    "sized": (OK + TWO, whole(**SIZED)),
    "chunked": (CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", whole(**IN_CHUNKS)),
    "empty": (OK + b"content-length: 0\r\n\r\n", whole(b"", **{"content-length": "0"})),
    "chunk extensions": (
        CHUNKED + b'2;a=b;c="d"\r\n{}\r\n0;last\r\n\r\n',
        whole(**IN_CHUNKS),
    ),
    "padded chunk sizes": (CHUNKED + b"2  \r\n{}\r\n0\r\n\r\n", whole(**IN_CHUNKS)),
    "trailers": (
        CHUNKED + b"2\r\n{}\r\n0\r\nretry-after: 9\r\nx: y\r\n\r\n",
        whole(**IN_CHUNKS),
    ),
    "no reason": (b"HTTP/1.1 200\r\n" + TWO, whole(**SIZED)),
    "an empty reason": (b"HTTP/1.1 200 \r\n" + TWO, whole(**SIZED)),
    "LF alone": (b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}", whole(**SIZED)),
    "an empty header": (OK + b"x:\r\ny: \r\n" + TWO, whole(x="", y="", **SIZED)),
    "first of a repeated header": (OK + b"A: 1\r\na: 2\r\n" + TWO, whole(a="1", **SIZED)),
    "interim answers": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK + TWO,
        whole(**SIZED),
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", whole(b"", 204)),
    "304": (
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
        whole(b"", 304, **{"content-length": "9"}),
    ),
    "says goodbye": (
        OK + b"connection: close\r\n" + TWO,
        whole(kept=False, connection="close", **SIZED),
    ),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n" + TWO, whole(kept=False, **SIZED)),
    "HTTP/1.0 that stays": (
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n" + TWO,
        whole(connection="keep-alive", **SIZED),
    ),
    "until close": (
        OK + b"connection: close\r\n\r\n{}",
        whole(kept=False, connection="close"),
    ),
    "until close without a word": (OK + b"\r\n{}", whole(kept=False)),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_the_same_whole_and_byte_by_byte(name):
    sent, expected = ANSWERS[name]

    assert expected == outcome(sent)
    assert expected == outcome(*(bytes([byte]) for byte in sent))


MALFORMED = "malformed: gpu did not answer in readable HTTP."
GONE = "connection: gpu closed the connection without an answer."
BROKEN = "connection: The provider's answer broke off (its framing is broken)."
CUT = "connection: The provider's answer broke off (the connection ended)."

FAULTS = {
    "garbage": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", MALFORMED),
    "HTML": (b"<html>no</html>\r\n\r\n", MALFORMED),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x46", MALFORMED),
    "a status that is none": (b"HTTP/1.1 abc\r\n\r\n", MALFORMED),
    "a status of two digits": (b"HTTP/1.1 20 OK\r\n\r\n", MALFORMED),
    "a status below 100": (b"HTTP/1.1 099 OK\r\n" + TWO, MALFORMED),
    "a header without a colon": (OK + b"nothing here\r\n" + TWO, MALFORMED),
    "a header over two lines": (OK + b"a: b\r\n c\r\n" + TWO, MALFORMED),
    "a space before the colon": (OK + b"a : b\r\n" + TWO, MALFORMED),
    "a NUL": (OK + b"a: b\0c\r\n" + TWO, MALFORMED),
    "a negative length": (OK + b"content-length: -1\r\n\r\n", MALFORMED),
    "a length that overflows": (OK + b"content-length: 99999999999999999999\r\n\r\n", MALFORMED),
    "a length in words": (OK + b"content-length: two\r\n\r\n{}", MALFORMED),
    "two lengths": (OK + b"content-length: 2\r\n" + TWO, MALFORMED),
    "two different lengths": (OK + b"content-length: 3\r\n" + TWO, MALFORMED),
    "a length and chunks": (OK + b"transfer-encoding: chunked\r\n" + TWO, MALFORMED),
    "a coding nobody asked for": (OK + b"transfer-encoding: gzip, chunked\r\n\r\n", MALFORMED),
    "a second coding": (
        OK + b"transfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n\r\n",
        MALFORMED,
    ),
    "another protocol": (
        b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        MALFORMED,
    ),
    "too many headers": (OK + b"a: b\r\n" * 201 + TWO, MALFORMED),
    "too long a header": (OK + b"a: " + b"b" * 17_000 + b"\r\n" + TWO, MALFORMED),
    "too long a head": (OK + (b"a: " + b"b" * 9_000 + b"\r\n") * 8 + TWO, MALFORMED),
    "a line without an end": (OK + b"a: " + b"b" * MAX_BARREN_BYTES, MALFORMED),
    "interim answers without an end": (b"HTTP/1.1 100 Continue\r\n\r\n" * 101, MALFORMED),
    "nothing": (b"", GONE),
    "half a head": (OK + b"content-le", GONE),
    "an interim answer alone": (b"HTTP/1.1 100 Continue\r\n\r\n", GONE),
    "half a body": (OK + b"content-length: 2\r\n\r\n{", CUT),
    "no last chunk": (CHUNKED + b"1\r\n{\r\n", CUT),
    "half a chunk": (CHUNKED + b"ffff\r\n{", CUT),
    "a chunk size beyond all": (CHUNKED + b"7fffffffffffffff\r\n{", CUT),
    "a chunk size that overflows": (CHUNKED + b"1\r\n{\r\nfffffffffffffffff\r\n", BROKEN),
    "a negative chunk size": (CHUNKED + b"1\r\n{\r\n-1\r\n", BROKEN),
    "a chunk size in words": (CHUNKED + b"1\r\n{\r\nxyz\r\n", BROKEN),
    "a chunk longer than it says": (CHUNKED + b"1\r\n{}\r\n0\r\n\r\n", BROKEN),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_in_the_same_words_however_it_is_cut(name):
    sent, failure = FAULTS[name]
    pieces = [sent[at : at + 97] for at in range(0, len(sent), 97)]
    for cut in [[sent] if sent else [], pieces]:
        found = outcome(*cut)

        assert (failure, False, False) == (found.failure, found.ended, found.kept)
        assert (b"{" if found.status else b"") == found.body[:1]


def test_trailers_have_an_end():
    with Line() as line:
        line.hear(CHUNKED + b"1\r\n{\r\n0\r\n", *[b"a: b\r\n"] * (MAX_BARREN_BYTES // 6 + 1))

        assert ("abort", b"{") == (line.wire.ended, line.answer.take())
        assert "its framing is broken" in line.answer.failure.message


@given(
    name=st.sampled_from([*ANSWERS, *(name for name in FAULTS if len(FAULTS[name][0]) < 500)]),
    data=st.data(),
)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_cut_gives_the_same(name, data):
    sent = {**ANSWERS, **FAULTS}[name][0]
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(sent) - 1)), max_size=12)))
    edges = [0, *cuts, len(sent)]
    pieces = [sent[a:b] for a, b in pairwise(edges) if a < b]

    assert (outcome(sent) if sent else outcome()) == outcome(*pieces)


FRAMES = [
    b"2\r\nab\r\n",
    b"a\r\n0123456789\r\n",
    b"A\r\n0123456789\r\n",
    b"1b\r\n" + b"x" * 27 + b"\r\n",
    b"4\r\n\r\n\r\n\r\n",
    b"6\r\n0\r\n\r\n\n\r\n",
    b"0002\r\nab\r\n",
    b"2\r\nab\r\n3\r\nabc\r\n",
    b"2;a=b\r\nab\r\n",
    b"2 \r\nab\r\n",
    b"2\nab\n",
    b"2\r\nab\n",
    b"2\r\na",
    b"b\r\n2\r\n",
    b"2\r",
    b"\nab\r\n",
    b"2\r\n",
    b"2 \r\n",
    b"2;a\r\n",
    b"a\n",
    b"a",
    b"\n",
    b"+2\r\nab\r\n",
    b"0x2\r\nab\r\n",
    b"2_\r\nab\r\n",
    b"3\r\nab\r\n",
    b"1\r\nab\r\n",
    b"0\r\n\r\n",
    b"00\r\n\r\n",
    b"\r\n",
    b"z\r\nab\r\n",
    b"00000000000000002\r\nab\r\n",
]


@given(st.lists(st.sampled_from(FRAMES), max_size=8), st.lists(st.booleans(), max_size=8))
@example([FRAMES[0], FRAMES[1], b"0\r\n\r\n"], [])
@example([FRAMES[0], FRAMES[1], b"00\r\n\r\n"], [])
@example([b"2\r\na", b"2\nab\n", FRAMES[0]], [])
@settings(max_examples=500, deadline=None)
def test_a_chunk_that_comes_by_itself_is_what_it_is_among_others(frames, joined):
    """The parser is not shown it; what it says of the next bytes must be the same."""
    pieces = [CHUNKED]
    for frame, join in zip_longest(frames, joined[: len(frames)], fillvalue=False):
        if join:
            pieces[-1] += frame
        else:
            pieces.append(frame)

    # Bytes after the end close a connection, whether it has gone home before or not.
    one, many = outcome(b"".join(pieces)), outcome(*pieces)
    assert one == msgspec.structs.replace(many, kept=one.kept)


@pytest.mark.parametrize("name", [name for name in ANSWERS if "close" not in name])
def test_a_cut_at_any_point_is_never_a_whole_answer(name):
    """But for trailers, whose loss nobody notices before the end."""
    sent, expected = ANSWERS[name]
    for length in range(len(sent)):
        found = outcome(sent[:length])

        assert not found.ended
        assert found.failure in {GONE, CUT}
        assert expected.body.startswith(found.body)


@given(st.binary(max_size=300))
@example(OK)
@settings(max_examples=200, deadline=None)
def test_no_bytes_whatever_bring_it_down(sent):
    for head in (b"", OK, CHUNKED):
        found = outcome(head + sent)

        assert found.ended is (found.failure is None)


def test_the_answer_to_a_head_is_its_head():
    request = msgspec.structs.replace(POST, method="HEAD", body=b"")
    sized = OK + b"content-length: 200\r\n\r\n"

    assert whole(b"", kept=False, **{"content-length": "200"}) == outcome(sized, request=request)


@pytest.mark.parametrize("more", [b"x", b"HTTP/1.1 200 OK\r\n", b"\r\nHTTP/1.1 200 OK\r\n"])
@pytest.mark.parametrize("together", [True, False])
def test_bytes_that_nobody_asked_for_end_the_connection(more, together):
    """Else they would be the answer to the next call, which may be another tenant's."""
    with Line() as line:
        line.hear(*([OK + TWO + more] if together else [OK + TWO, more]))

        assert (True, b"{}") == (line.answer.ended, line.answer.take())
        assert "abort" == line.wire.ended
        assert together is not bool(line.home.free)


def test_a_connection_serves_one_answer_after_the_other():
    with Line() as line:
        bodies = []
        for _ in range(3):
            line.hear(OK + TWO)
            bodies.append((line.answer.ended, line.answer.take()))
            line.again()

        assert [(True, b"{}")] * 3 == bodies
        assert line.wire.ended is None


def test_what_is_left_of_one_answer_stays_with_its_caller():
    with Line() as line:
        first = line.answer
        line.hear(OK + TWO)
        line.again()
        line.hear(OK + b"content-length: 1\r\n\r\n1")
        first.leave()

        assert (b"{}", b"1") == (first.take(), line.answer.take())
        assert line.wire.ended is None


def test_a_request_is_one_write():
    with Line() as line:
        assert b"POST /v1 HTTP/1.1\r\nhost: gpu\r\na: b\r\ncontent-length: 2\r\n\r\n{}" == (
            line.wire.written
        )
        assert 1 == line.wire.writes


def test_an_answer_before_the_request_is_out_ends_the_connection():
    with Line() as line:
        line.wire.unsent_bytes = 1
        line.hear(OK + TWO)

        assert (True, "abort", []) == (line.answer.ended, line.wire.ended, line.home.free)


def test_a_server_that_speaks_first_has_answered():
    with Line() as line:
        early = PlainConnection(line.home, ORIGIN, answer := Answer(line.loop))
        early.connection_made(wire := PipeTransport())
        early.data_received(b"HTTP/1.1 503 Busy\r\n" + TWO)
        early.send(Heads().of(POST), b"{}")
        line.turn()

        assert (503, True, b"", "abort") == (answer.status, answer.ended, wire.written, wire.ended)


def test_a_request_that_never_left_cannot_have_been_billed():
    with Line() as line:
        early = PlainConnection(line.home, ORIGIN, answer := Answer(line.loop))
        early.connection_made(wire := PipeTransport())
        wire.ended = "lost"
        early.send(Heads().of(POST), b"{}")
        line.turn()
        early.connection_lost(None)

        assert (b"", False) == (wire.written, answer.failure.sent)
        line.end()
        assert line.answer.failure.sent


def test_a_reader_who_is_busy_stops_the_server():
    with Line() as line:
        line.hear(CHUNKED)
        piece = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
        while not line.wire.paused:
            line.hear(piece)

        assert READ_AHEAD_BYTES < line.answer.buffered_bytes <= READ_AHEAD_BYTES + 0x1000
        line.answer.take()
        assert not line.wire.paused


def test_a_connection_goes_home_reading():
    """Or nobody would notice that the server closes it."""
    with Line() as line:
        size = READ_AHEAD_BYTES + 10
        line.hear(OK + b"content-length: %d\r\n\r\n" % size, b"x" * (size - 1))
        assert line.wire.paused
        line.hear(b"x")

        assert ([line.connection], False) == (line.home.free, line.wire.paused)
        assert size == len(line.answer.take())


def test_headers_are_found_in_any_case():
    headers = Headers({b"retry-after": b"7", b"x": b"\xff"})

    assert ("7", "7", None) == (
        headers["Retry-After"],
        headers.get("RETRY-AFTER"),
        headers.get("y"),
    )
    assert ("retry-after" in headers, "ü☃" in headers, 2) == (True, False, len(headers))
    with pytest.raises(KeyError):
        headers["☃"]


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://gpu/v1?a=b#c", "POST /v1?a=b HTTP/1.1\r\nhost: gpu"),
        ("http://gpu", "POST / HTTP/1.1\r\nhost: gpu"),
        ("http://gpu:80/", "POST / HTTP/1.1\r\nhost: gpu"),
        ("http://GPU:8000/ü", "POST /%C3%BC HTTP/1.1\r\nhost: gpu:8000"),
        ("https://[::1]:8/", "POST / HTTP/1.1\r\nhost: [::1]:8"),
        ("https://[::1]/", "POST / HTTP/1.1\r\nhost: [::1]"),
        ("http://bücher.example/", "POST / HTTP/1.1\r\nhost: xn--bcher-kva.example"),
        ("http://a:b@gpu/", "POST / HTTP/1.1\r\nhost: gpu\r\nauthorization: Basic YTpi"),
    ],
)
def test_urls_become_request_lines(url, line):
    head = Heads().of(msgspec.structs.replace(POST, url=url, headers={}))

    assert f"{line}\r\n".encode() == head.prefix


def test_the_framing_is_not_for_others_to_say():
    given_headers = {"Host": "front", "Content-Length": "9", "Transfer-Encoding": "chunked"}
    head = Heads().of(msgspec.structs.replace(POST, headers=given_headers))

    assert b"POST /v1 HTTP/1.1\r\nHost: front\r\n" == head.prefix


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "/v1"},
        {"url": "ftp://gpu/"},
        {"url": "http://gpu:99999/"},
        {"url": "http://"},
        {"method": "PO ST"},
        {"headers": {"a b": "secret"}},
        {"headers": {"": "secret"}},
        {"headers": {"a": "sec\r\nret: x"}},
        {"headers": {"a": "secret\0"}},
        {"headers": {"authorization": "secret"}, "url": "http://user:secret@gpu/"},
    ],
)
def test_what_is_no_request_is_not_sent(fields):
    with pytest.raises(UpstreamError) as caught:
        Heads().of(msgspec.structs.replace(POST, **fields))

    assert not caught.value.sent
    assert caught.value.message.endswith("is not valid HTTP.")
    assert "secret" not in caught.value.message


def test_heads_do_not_pile_up():
    heads = Heads()
    for number in range(3 * MAX_HEADS):
        heads.of(msgspec.structs.replace(POST, headers={"a": str(number)}))

    assert len(heads._known) <= MAX_HEADS
