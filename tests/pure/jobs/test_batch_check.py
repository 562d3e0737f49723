"""What is wrong with an input file is told by line; a good one is read in any pieces."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequest
from shared.jobs.batch.check import Check
from shared.jobs.batch.lines import RawLine, read_lines
from shared.jobs.batch.terms import MOST_LINES, Expiry, kept_for_s, priority_of, window_length
from tests.contract.batches.rig import CHAT, check, request, text

pytestmark = pytest.mark.anyio


async def pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def read(content: bytes, size=7, *, start=0, most_bytes=2_000) -> list[RawLine]:
    lines = read_lines(pieces(content[start:], size), start=start, most_bytes=most_bytes)
    return [line async for line in lines]


async def checked(content: bytes) -> Check:
    found = Check(CHAT, check)
    for line in await read(content):
        found.take(line)
    found.end()
    return found


@pytest.mark.behaviour(190)
@pytest.mark.parametrize(
    ("content", "code", "line", "param"),
    [
        (b"", "empty_file", None, None),
        (b"\n \n", "empty_file", None, None),
        (text([request("a")]) + b"\n\n{oops", "invalid_json_line", 3, None),
        (text([request("a")]) + b'\n{"custom_id": "\xff"}', "invalid_json_line", 2, None),
        (b'{"more": ' + b"[" * 1_500, "invalid_json_line", 1, None),
        (text([request("a"), request("b"), request("a")]), "duplicate_custom_id", 3, "custom_id"),
        (text([request("a"), request("b", url="/v1/embeddings")]), "url_mismatch", 2, "url"),
        (text([request("a", method="GET")]), "invalid_request", 1, "method"),
        (text([request("")]), "invalid_request", 1, "custom_id"),
        (text([request("x" * 513)]), "invalid_request", 1, "custom_id"),
        (text([request("a\0b")]), "invalid_request", 1, "custom_id"),
        (text([{"custom_id": "a"}]), "invalid_request", 1, None),
        (text([request("a", "unknown")]), "model_not_found", 1, "body.model"),
        (text([request("a", "x" * 2_100), request("b")]), "request_too_large", 1, None),
    ],
)
async def test_a_mistake_is_told_with_its_line(content, code, line, param):
    found = await checked(content)

    assert [(code, line, param)] == [(one.code, one.line, one.param) for one in found.errors]


async def test_fifty_mistakes_are_enough():
    found = Check(CHAT, check)

    for line in await read(b"{\n" * 80):
        if found.full:
            break
        found.take(line)

    assert list(range(1, 51)) == [one.line for one in found.errors]


async def test_one_line_more_than_allowed_is_one_too_many():
    found = Check(CHAT, check)
    found.count = MOST_LINES

    found.take(RawLine(raw=text([request("a")]), number=MOST_LINES + 1, ends=0))

    assert found.full
    assert ["too_many_tasks"] == [one.code for one in found.errors]


async def test_the_model_is_the_one_all_lines_ask_for():
    same = await checked(text([request("a", "m"), request("b", "m")]))
    mixed = await checked(text([request("a", "m"), request("b", "n")]))

    assert ("m", None) == (same.model, mixed.model)


@given(
    lines=st.lists(st.binary(max_size=12).filter(lambda one: b"\n" not in one), max_size=8),
    size=st.integers(1, 20),
)
async def test_lines_are_the_same_however_the_bytes_are_cut(lines, size):
    """And reading goes on from wherever a line ended."""
    content = b"\n".join(lines)
    whole = [line.removeprefix(b"\xef\xbb\xbf" if n == 0 else b"") for n, line in enumerate(lines)]

    found = await read(content, size)

    assert [line.strip() for line in whole if line.strip()] == [one.raw for one in found]
    for number, one in enumerate(found):
        rest = await read(content, size, start=one.ends)
        assert [line.raw for line in found[number + 1 :]] == [line.raw for line in rest]


async def test_a_long_line_is_passed_over_in_little_memory():
    found = await read(b"a" * 5_000 + b"\nshort", 100)

    assert [(None, 5_001), (b"short", 5_006)] == [(one.raw, one.ends) for one in found]


@pytest.mark.parametrize(
    ("window", "length_s", "priority"),
    [
        ("immediate", 3600, "default"),
        ("1m", 60, "batch"),
        ("24h", 86_400, "batch"),
        ("168h", 604_800, "batch"),
        ("7d", 604_800, "batch"),
    ],
)
def test_windows(window, length_s, priority):
    assert (length_s, priority) == (window_length(window).total_seconds(), priority_of(window))


@pytest.mark.parametrize("window", ["", "24", "0h", "8d", "169h", "-1h", "1w", "24h ", "1.5h"])
def test_windows_that_are_none(window):
    with pytest.raises(InvalidRequest):
        window_length(window)


def test_output_files_are_kept_for_thirty_days_or_as_long_as_asked():
    asked = Expiry(anchor="created_at", seconds=3600.0)

    assert (30 * 86_400, 3600) == (kept_for_s(None), kept_for_s(asked))
