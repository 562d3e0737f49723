"""Only the model and the operator's params change; all else goes on byte for byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.providers.dialects.openai import rewrite


def sent(raw, params=None, *, force=False):
    body = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    return rewrite(body, model="real", params=params or {}, force_stream_usage=force)


@pytest.mark.behaviour(68)
def test_only_the_top_level_model_is_replaced():
    """A regex would hit the one inside the message."""
    raw = b'{"messages":[{"content":"{\\"model\\":\\"x\\"}"}], "model" : "alias","x":{"model":"y"}}'

    assert (
        b'{"messages":[{"content":"{\\"model\\":\\"x\\"}"}],"model":"real","x":{"model":"y"}}'
        == sent(raw)
    )


@pytest.mark.behaviour(34, 63)
def test_numbers_and_escapes_stay_as_they_were_written():
    raw = b'{"model":"a","seed":12345678901234567890,"temperature":1.0e0,"user":"\\u00e9\\/"}'

    assert (
        b'{"model":"real","seed":12345678901234567890,"temperature":1.0e0,"user":"\\u00e9\\/"}'
        == sent(raw)
    )


def test_the_operators_params_fill_in_what_the_caller_left_out():
    body = json.loads(sent({"model": "a", "top_k": 5}, {"top_k": 9, "min_p": 0.1}))

    assert {"model": "real", "top_k": 5, "min_p": 0.1} == body


@pytest.mark.behaviour(101)
@pytest.mark.parametrize(
    "options", [None, {}, {"include_usage": False}, {"include_obfuscation": True}]
)
def test_usage_is_forced_and_other_stream_options_stay(options):
    body = json.loads(sent({"model": "a", "stream": True, "stream_options": options}, force=True))

    assert {**(options or {}), "include_usage": True} == body["stream_options"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
)


@given(fields=st.dictionaries(st.text(), JSON, max_size=4))
def test_everything_else_means_the_same(fields):
    assert {**fields, "model": "real"} == json.loads(sent({**fields, "model": "alias"}))
