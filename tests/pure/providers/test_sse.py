"""The standard's rules, and two leniencies towards real servers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.providers.dialects.sse import EventTooLarge, SseParser


def parsed(*pieces, limit_bytes=1000):
    parser = SseParser(limit_bytes)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return [(event.name, event.data) for event in [*events, *parser.finish()]]


@pytest.mark.behaviour(112)
@pytest.mark.parametrize(
    ("raw", "data"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\r\n\r\ndata: b\r\r", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b": ping\n\ndata: a\n: x\ndata: b\n\n", [b"a\nb"]),
        (b"id: 7\nretry: 1\ndata: a\n\n", [b"a"]),
        (b"event: x\n\ndata: a\n\n", [b"a"]),
        (b"data\n\ndata:\n\n", []),
        (b"data:  two spaces\n\n", [b" two spaces"]),
        ("data: a\u2028b\u0085c\x0bd\n\n".encode(), ["a\u2028b\u0085c\x0bd".encode()]),
        (b"data: no blank line", [b"no blank line"]),
        (b'{"error":"plain line"}\n', [b'{"error":"plain line"}']),
        (b"", []),
    ],
)
def test_reads_events(raw, data):
    assert data == [found for _, found in parsed(raw)]


def test_names_do_not_leak_into_the_next_event():
    assert [(b"error", b"1"), (b"", b"2")] == parsed(b"event: error\ndata: 1\n\ndata: 2\n\n")


def test_an_event_that_never_ends_is_refused_early():
    """Also when it comes in pieces without a line's end."""
    parser = SseParser(limit_bytes=100)
    for _ in range(100):
        parser.feed(b"x")

    with pytest.raises(EventTooLarge):
        parser.feed(b"x")


def test_many_small_events_may_be_larger_than_one():
    assert 100 == len(parsed(b"data: 123456\n\n" * 100, limit_bytes=20))


PIECES = st.sampled_from([
    b"data: ", b"data:", b"data", b"event: error", b": note", b"{}", b"a", "é\u2028".encode(),
    b"\n", b"\r", b"\r\n", b"\n\n", b"\xef\xbb\xbf", b"id: 1", b" ", b":",
])  # fmt: skip


@pytest.mark.behaviour(111, 112)
@given(raw=st.lists(PIECES, max_size=30).map(b"".join), data=st.data())
def test_however_the_bytes_are_cut(raw, data):
    """Down to single bytes."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    at = [0, *cuts, len(raw)]
    pieces = [raw[at[i] : at[i + 1]] for i in range(len(at) - 1)]

    assert parsed(raw) == parsed(*pieces)
    assert parsed(raw) == parsed(*(bytes([byte]) for byte in raw))
