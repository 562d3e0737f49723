"""What makes two questions the same."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cache.question import UNREADABLE, digest_of, fields_of

IDLE = frozenset({"model", "user"})

texts = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
questions = st.dictionaries(texts | st.sampled_from(sorted(IDLE)), anything, max_size=5)


def digest(raw):
    return digest_of(fields_of(raw), endpoint="acme/v1", mark="m", headers={}, without=IDLE)


@given(questions, st.randoms(use_true_random=False), st.booleans(), st.sampled_from([None, 1]))
def test_a_question_has_one_name_however_it_is_written(question, chance, ascii_only, indent):
    """Order, spaces and escapes say nothing, nor do a null and fields without meaning."""
    fields = [(name, value) for name, value in question.items() if name not in IDLE]
    chance.shuffle(fields)
    again = {"model": chance.choice(["a", "b"]), **dict(fields), "nothing": None}
    raw = json.dumps(again, ensure_ascii=ascii_only, indent=indent).encode()

    question.pop("nothing", None)
    assert digest(json.dumps(question).encode()) == digest(raw)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'{"seed":7}', b'{"seed":7.0}', True),
        (b'{"seed":1e2}', b'{"seed":100}', True),
        (b'{"seed":7}', b'{"seed":7.5}', False),
        (b'{"seed":7}', b'{"seed":"7"}', False),
        (b'{"seed":1}', b'{"seed":true}', False),
        (b'{"seed":9007199254740993}', b'{"seed":9007199254740992}', False),
        (b'{"seed":18446744073709551617}', b'{"seed":18446744073709551616}', False),
        (b'{"n":1,"seed":-18446744073709551617}', b'{"seed":-18446744073709551617,"n":1}', True),
        (b'{"seed":1e20}', b'{"seed":100000000000000000000}', True),
        (b'{"seed":1,"seed":2}', b'{"seed":2}', True),
        (b'{"stop":["a","b"]}', b'{"stop":["b","a"]}', False),
        (b'{"stop":[null]}', b'{"stop":[]}', False),
    ],
)
def test_numbers_count_by_their_value_and_lists_by_their_order(one, other, same):
    assert same == (digest(one) == digest(other))


@pytest.mark.parametrize("raw", [b"[]", b"{", b'{"a":"\xff"}', b"[" * 100_000])
def test_what_cannot_be_read_is_no_question(raw):
    with pytest.raises(UNREADABLE):
        fields_of(raw)
