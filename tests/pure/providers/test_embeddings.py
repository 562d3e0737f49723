"""Vectors in no vendor's words: requests, answers, and their widths."""

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.usage import Usage
from shared.errors import InvalidRequest, UnsupportedParameter, UpstreamError
from shared.providers.dialects.embeddings import (
    MAX_INPUTS,
    EmbeddingRequest,
    EmbeddingResponse,
    parse_embedding_request,
    render_embeddings,
)
from shared.providers.dialects.openai_embeddings import first_width
from shared.providers.exchange import HttpResponse
from tests.pure.providers.test_adapters import asked, exchange


def parsed(**fields):
    raw = json.dumps({"model": "chat", **fields}).encode()
    return parse_embedding_request(raw, model="m", name="up/m")


def test_a_request_in_openais_words():
    found = parsed(input=["a", "b"], dimensions=4, encoding_format="base64", task_type="x")

    expected = EmbeddingRequest(
        model="m",
        inputs=("a", "b"),
        dimensions=4,
        encoding_format="base64",
        extra={"task_type": "x"},
    )
    assert expected == found


@pytest.mark.behaviour(184)
@pytest.mark.parametrize("given_", [{}, {"encoding_format": None}, {"encoding_format": "float"}])
def test_floats_are_meant_when_nothing_is_said(given_):
    assert "float" == parsed(input="a", **given_).encoding_format


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": ["a"] * (MAX_INPUTS + 1)}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": {}}, None),
    ],
)
def test_what_is_wrong_is_named(fields, param):
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)

    assert param == caught.value.param


@pytest.mark.behaviour(186)
@pytest.mark.parametrize("input_", [[1], [[1, 2]], ["a", [1]]])
def test_token_ids_are_not_for_others(input_):
    with pytest.raises(UnsupportedParameter) as caught:
        parsed(input=input_)

    assert "input" == caught.value.param


@pytest.mark.behaviour(183)
@given(st.lists(st.lists(st.floats(width=32, allow_nan=False), min_size=1), min_size=1))
def test_base64_holds_the_same_numbers(vectors):
    answer = EmbeddingResponse(vectors=tuple(vectors), usage=Usage(input_tokens=3))
    wanted = EmbeddingRequest(model="m", inputs=(), encoding_format="base64")

    body = json.loads(render_embeddings(answer, wanted))

    packed = [base64.b64decode(row["embedding"]) for row in body["data"]]
    assert vectors == [list(struct.unpack(f"<{len(one) // 4}f", one)) for one in packed]
    assert list(range(len(vectors))) == [row["index"] for row in body["data"]]
    assert {"prompt_tokens": 3, "total_tokens": 3} == body["usage"]


@pytest.mark.parametrize(
    ("vector", "width"),
    [("[1.0, -2, 3e5]", 3), ("[]", 0), ('"AACAPwAAAL8="', 2), ('""', 0), ("null", None)],
)
def test_the_width_is_seen_without_decoding(vector, width):
    assert width == first_width(b'{"data":[{"embedding": %b, "index": 0}]}' % vector.encode())


def relayed(kind, **fields):
    request = asked("/v1/embeddings", input="a", **fields)
    return exchange(kind, request=request, base_url="http://up")


@pytest.mark.behaviour(184)
@pytest.mark.parametrize("form", [None, "base64", "float"])
def test_only_those_that_make_base64_are_asked_for_it(form):
    """A null is never sent, and others are asked for nothing."""
    plain = json.loads(relayed("openai_compatible", encoding_format=form).request.body)
    able = json.loads(relayed("openai", encoding_format=form).request.body)

    assert "encoding_format" not in plain
    assert form == able.get("encoding_format")
    assert form is not None or "encoding_format" not in able


def test_mistral_has_its_own_word_for_the_width():
    sent = json.loads(relayed("mistral", dimensions=4).request.body)

    assert (4, None) == (sent.get("output_dimension"), sent.get("dimensions"))


@pytest.mark.behaviour(187)
def test_a_server_that_passes_over_the_width_is_not_believed():
    asked_for = relayed("openai_compatible", dimensions=4)
    row = {"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}
    body = json.dumps({"object": "list", "model": "m", "data": [row]}).encode()

    with pytest.raises(UpstreamError) as caught:
        asked_for.read(HttpResponse(status=200, headers={}, body=body))

    error = caught.value
    assert (400, "dimensions", True) == (error.status, error.param, error.billed)


VECTORS = [[1.0], [2.0], [3.0]]


def told(*rows):
    return HttpResponse(status=200, headers={}, body=json.dumps({"data": rows}).encode())


@pytest.mark.behaviour(185)
@pytest.mark.parametrize("places", [(0, 1, 2), (2, 0, 1), (None, None, None)])
def test_vectors_come_in_the_order_of_the_inputs(places):
    """Wherever the server puts them, and even if it does not say which is which."""
    wire = exchange("together", request=asked("/v1/embeddings", input=["a", "b", "c"]))
    rows = [
        {"embedding": VECTORS[at if place is None else place]}
        | ({} if place is None else {"index": place})
        for at, place in enumerate(places)
    ]

    data = json.loads(wire.read(told(*rows)).body)["data"]

    assert [(0, [1.0]), (1, [2.0]), (2, [3.0])] == [
        (row["index"], row["embedding"]) for row in data
    ]


@pytest.mark.behaviour(185)
@pytest.mark.parametrize("places", [(), (0,), (0, 0), (0, 2), (0, 1, 2)])
def test_there_is_one_vector_for_each_input(places):
    wire = exchange("openai", request=asked("/v1/embeddings", input=["a", "b"]))

    with pytest.raises(UpstreamError):
        wire.read(told(*({"index": place, "embedding": [1.0]} for place in places)))


@pytest.mark.behaviour(186)
@pytest.mark.parametrize("kind", ["mistral", "together", "zai", "lmstudio"])
@pytest.mark.parametrize("tokens", [[1, 2], [[1, 2], [3]]])
def test_token_ids_are_not_relayed_to_those_without_them(kind, tokens):
    with pytest.raises(UnsupportedParameter) as refused:
        exchange(kind, request=asked("/v1/embeddings", input=tokens))
    assert "input" == refused.value.param


@pytest.mark.behaviour(186)
@pytest.mark.parametrize(("tokens", "count"), [([1, 2], 1), ([[1, 2], [3]], 2)])
def test_token_ids_are_one_input_or_several(tokens, count):
    wire = exchange("openai", request=asked("/v1/embeddings", input=tokens))
    rows = [{"index": at, "embedding": [1.0]} for at in range(count)]

    assert rows == json.loads(wire.read(told(*rows)).body)["data"]


def test_no_inputs_are_no_question():
    with pytest.raises(InvalidRequest) as refused:
        exchange("openai", request=asked("/v1/embeddings", input=[]))
    assert "input" == refused.value.param
