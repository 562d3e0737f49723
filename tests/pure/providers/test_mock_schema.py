"""The mock's arguments are small whatever a caller's schema asks for."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.providers.mock_schema import MOST_ITEMS, MOST_NODES, instance_of

HUGE = {"type": "array", "minItems": 10**12, "items": {"type": "integer"}}


def count(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value
    return 1 + (sum(map(count, inner)) if isinstance(value, dict | list) else 0)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "mock"),
        ({"const": [1]}, [1]),
        ({"enum": ["C", "F"]}, "C"),
        ({"anyOf": [{"type": "boolean"}]}, True),
        ({"type": ["integer", "null"]}, 1),
        ({"type": "array", "minItems": 2, "items": {"type": "number"}}, [1.5, 1.5]),
        ({"properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}, {"a": "mock"}),
        (None, {}),
    ],
)
def test_the_smallest_value(schema, value):
    assert value == instance_of(schema)


def test_a_list_is_short_whatever_it_should_be():
    assert [1] * MOST_ITEMS == instance_of(HUGE)


def test_nested_lists_have_a_common_bound():
    schema = HUGE
    for _ in range(12):
        schema = {"type": "array", "minItems": 16, "items": schema}

    assert MOST_NODES >= count(instance_of(schema))


def test_large_given_values_are_not_repeated():
    schema = {"type": "array", "minItems": 16, "items": {"const": "x" * 100_000}}

    assert [None] * MOST_ITEMS == instance_of(schema)


def test_a_schema_may_be_nested_beyond_reason():
    schema: object = {}
    for _ in range(5_000):
        schema = {"anyOf": [schema]}

    assert instance_of(schema) is None


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "array", "minItems": "5"}, []),
        ({"type": "array", "minItems": 2.5}, []),
        ({"type": "array", "minItems": True}, []),
        ({"type": "array", "minItems": -3}, []),
        ({"type": "object", "required": 3}, {}),
        ({"type": "object", "required": [1, None, {}, "a"]}, {"a": None}),
        ({"type": "object", "properties": [1], "required": ["a"]}, {"a": None}),
        ({"type": {"x": 1}}, None),
        ({"type": []}, None),
        ({"enum": 4, "anyOf": {}, "type": "integer"}, 1),
    ],
)
def test_a_wrong_keyword_counts_as_absent(schema, value):
    assert value == instance_of(schema)


_GIVEN = ("const", "enum", "examples", "anyOf", "oneOf", "type")
_KEYWORDS = (*_GIVEN, "properties", "required", "minItems", "items")
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_KEYWORDS) | st.text(max_size=3),
            inner | st.sampled_from(["array", "object", "string"]),
            max_size=4,
        )
    ),
    max_leaves=30,
)


@given(schema=_JSON)
def test_no_schema_raises_and_all_results_are_json(schema):
    json.dumps(instance_of(schema))
