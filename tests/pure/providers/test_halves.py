"""An emoji that a vendor has cut in two between events reaches the caller as one."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.providers.dialects.halves import Halves
from shared.providers.dialects.openai_chat import OpenAIDecoder
from shared.providers.dialects.openai_mend import Mender
from shared.providers.dialects.openai_mended import MendingScanner
from shared.providers.dialects.openai_render import OpenAIRenderer
from shared.providers.dialects.openai_stream import OpenAIScanner
from shared.providers.translation import TranslatingScanner
from tests.fakes.upstream import DONE, chunk

HIGH, LOW = "\ud83d", "\ude00"


def texts(*events):
    halves = Halves()
    return [json.loads(halves.whole(json.dumps(event).encode())) for event in events]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(["a" + HIGH, LOW + "b"], ["a", "\U0001f600b"], id="cut"),
        pytest.param([HIGH, "", {"n": 1}, LOW], ["", "", {"n": 1}, "\U0001f600"], id="later"),
        pytest.param([HIGH + "a", "a" + LOW], ["\ufffda", "a\ufffd"], id="alone"),
        pytest.param([HIGH, "a"], ["", "a"], id="never whole"),
        pytest.param([LOW, LOW], ["\ufffd", "\ufffd"], id="no first half"),
        pytest.param([HIGH, LOW, LOW], ["", "\U0001f600", "\ufffd"], id="once"),
        pytest.param(["\\ud83d", "\\" + HIGH, LOW], ["\\ud83d", "\\", "\U0001f600"], id="slashes"),
        pytest.param(["a\U0001f600" + HIGH, LOW], ["a\U0001f600", "\U0001f600"], id="whole ones"),
    ],
)
def test_halves_are_put_together(events, expected):
    assert expected == texts(*events)


@given(st.lists(st.text(max_size=5), max_size=5))
def test_what_is_whole_stays_as_it_is(events):
    halves = Halves()
    for event in events:
        data = json.dumps(event).encode()
        assert data == halves.whole(data)


@given(st.text(max_size=20), st.data())
def test_wherever_it_is_cut(text, data):
    """In units of UTF-16."""
    units = text.encode("utf-16-le")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(units) // 2), max_size=4)))
    bounds = [0, *cuts, len(units) // 2]
    events = [
        units[2 * start : 2 * end].decode("utf-16-le", "surrogatepass")
        for start, end in pairwise(bounds)
    ]

    assert text == "".join(texts(*events))


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    "new_scanner",
    [
        pytest.param(OpenAIScanner, id="relays"),
        pytest.param(lambda: MendingScanner(Mender()), id="mends"),
        pytest.param(
            lambda: TranslatingScanner(OpenAIDecoder(), OpenAIRenderer(include_usage=False)),
            id="translates",
        ),
    ],
)
def test_the_callers_text_is_whole(new_scanner, named):
    scanner = new_scanner()
    deltas = [{"role": "assistant", "content": ""}, {"content": "a"}, {"content": "b" + HIGH}]
    events = [*map(chunk, [*deltas, {"content": LOW + "c"}]), chunk({}, "stop"), DONE]
    scans = [scanner.feed(b"event: message\n" * named + event) for event in events]

    out = b"".join(scan.out for scan in scans)
    deltas = [json.loads(event[6:])["choices"][0]["delta"] for event in out.split(b"\n\n")[:-1]]
    assert "ab\U0001f600c" == "".join(delta.get("content") or "" for delta in deltas)
    assert scans[-1].ended
    assert scans[-1].error is None
