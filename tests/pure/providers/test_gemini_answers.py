"""What Gemini answers: whole and streamed alike, nothing made up, nothing lost."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.message import ImagePart
from shared.chat.response import FinishReason, fold
from shared.chat.usage import Usage
from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects.anthropic_render import MessagesRenderer
from shared.providers.dialects.anthropic_render import render_response as render_message
from shared.providers.dialects.gemini import GEMINI, GeminiDecoder, parse_response
from shared.providers.dialects.openai_render import OpenAIRenderer, render_response
from shared.providers.exchange import HttpResponse
from shared.providers.translation import Asked

ASKED = Asked(
    model="gemini-3-flash",
    tool_names={"_a_b": "a b"},
    json_tool="json_answer",
    custom_tools=frozenset({"shell"}),
    tools=True,
)


def body(*parts, finish=None, index=0, usage=None, **more):
    candidate = {"content": {"role": "model", "parts": list(parts)}, "index": index, **more}
    if finish:
        candidate["finishReason"] = finish
    found = {"candidates": [candidate], "responseId": "r", "modelVersion": "m"}
    return found | ({"usageMetadata": usage} if usage else {})


def whole(found, asked=ASKED):
    return parse_response(json.dumps(found).encode(), asked)


def choice(found):
    (only,) = whole(found).choices
    return only


def sse(*found):
    return b"".join(b"data: " + json.dumps(one).encode() + b"\r\n\r\n" for one in found)


def streamed(raw, asked=ASKED):
    decoder = GeminiDecoder(asked)
    begun, ended = decoder.feed(raw), decoder.finish()
    error = begun.error or ended.error
    if error is not None:
        raise error
    return [*begun.deltas, *ended.deltas]


def call(name="f", **args):
    return {"functionCall": {"name": name, "args": args}}


FINISHES = [
    ("STOP", FinishReason.STOP),
    ("MAX_TOKENS", FinishReason.LENGTH),
    ("CONTINUATION", FinishReason.LENGTH),
    ("SAFETY", FinishReason.CONTENT_FILTER),
    ("RECITATION", FinishReason.CONTENT_FILTER),
    ("SPII", FinishReason.CONTENT_FILTER),
    ("MODEL_ARMOR", FinishReason.CONTENT_FILTER),
    ("LANGUAGE", FinishReason.STOP),
    ("SOMETHING_NEW", FinishReason.STOP),
    ("MALFORMED_FUNCTION_CALL", FinishReason.STOP),
    (None, FinishReason.STOP),
]


@pytest.mark.parametrize(("reason", "finish"), FINISHES)
def test_finish_reasons_of_a_text(reason, finish):
    assert finish == choice(body({"text": "x"}, finish=reason)).finish


@pytest.mark.behaviour(72, 73)
@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", FinishReason.TOOL_CALLS),
        ("MAX_TOKENS", FinishReason.LENGTH),
        ("SAFETY", FinishReason.CONTENT_FILTER),
        ("OTHER", FinishReason.TOOL_CALLS),
    ],
)
def test_finish_reasons_of_a_call(reason, finish):
    assert finish == choice(body(call(), finish=reason)).finish


@pytest.mark.behaviour(76)
@pytest.mark.parametrize(
    "reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "OTHER", "NO_IMAGE", None]
)
def test_an_answer_that_broke_is_no_empty_stop(reason):
    with pytest.raises(UpstreamError) as caught:
        whole(body({"text": "hm", "thought": True}, finish=reason))

    assert FailureKind.SERVER_ERROR == caught.value.kind


@pytest.mark.behaviour(69)
def test_an_empty_stop_of_its_own_is_one():
    found = choice(body({"text": ""}, finish="STOP"))

    assert (None, FinishReason.STOP) == (found.text, found.finish)


@pytest.mark.behaviour(75)
@pytest.mark.parametrize("content", [{}, {"content": {}}, {"content": {"parts": None}}])
def test_a_candidate_may_have_nothing(content):
    found = choice({"candidates": [{"finishReason": "MAX_TOKENS", **content}]})

    assert (None, FinishReason.LENGTH) == (found.text, found.finish)


@pytest.mark.behaviour(74)
def test_a_refused_prompt_is_a_choice_also_in_a_stream():
    refused = {"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": "No."}}

    for found in (whole(refused), fold(streamed(sse(refused)))):
        (only,) = found.choices
        assert ("No.", FinishReason.CONTENT_FILTER) == (only.refusal, only.finish)


@pytest.mark.behaviour(77)
def test_calls_without_ids_get_their_own():
    first, second = choice(body(call(), call(), finish="STOP")).tool_calls
    (other,) = choice({**body(call(), finish="STOP"), "responseId": "s"}).tool_calls

    assert 3 == len({first.id, second.id, other.id})
    assert all(one.id.startswith("call_") for one in (first, second, other))


@pytest.mark.behaviour(27)
def test_names_and_wrapped_texts_are_the_callers_again():
    named, free, odd = choice(
        body(call("_a_b"), call("shell", input="ls -l"), call("shell", other=1), finish="STOP")
    ).tool_calls

    assert ("a b", "function") == (named.name, named.kind)
    assert ("ls -l", "custom") == (free.arguments, free.kind)
    assert '{"other":1}' == odd.arguments


def test_the_tool_that_stands_for_a_schema_is_the_text():
    found = choice(body(call("json_answer", a="ä"), finish="STOP"))

    assert ("ä", (), FinishReason.STOP) == (
        json.loads(found.text)["a"],
        found.tool_calls,
        found.finish,
    )


@pytest.mark.behaviour(60)
def test_words_beside_the_schemas_tool_are_not_its_text():
    asked = call("json_answer", a=1), {"text": " I hope it helps."}, call("json_answer", a=2)
    parts = [{"text": "Here it is: "}, *asked]
    found = whole(body(*parts, finish="STOP"))

    assert ('{"a":1}', ()) == (found.choices[0].text, found.choices[0].tool_calls)
    assert found == fold(streamed(sse(*map(body, parts), body(finish="STOP"))))


def test_words_without_the_schemas_tool_are_the_text():
    found = fold(streamed(sse(body({"text": "I "}), body({"text": "cannot."}, finish="STOP"))))

    assert ("I cannot.", FinishReason.STOP) == (found.choices[0].text, found.choices[0].finish)


@pytest.mark.behaviour(68, 77)
def test_an_answer_that_names_neither_itself_nor_its_model():
    found = {"candidates": body(call(), call(), finish="STOP")["candidates"]}
    answers = [whole(found, Asked(model="gemini-3-flash", nonce=nonce)) for nonce in "ab"]
    ids = {made.id for answer in answers for made in answer.choices[0].tool_calls}

    assert 4 == len(ids)
    assert {"gemini-3-flash"} == {answer.model for answer in answers}
    assert answers[0] == fold(streamed(sse(found), Asked(model="gemini-3-flash", nonce="a")))


def test_numbers_are_as_they_were_written():
    raw = b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{\n "a": 1.0,\n'
    raw += b' "b": 123456789012345678901 }}}]},"finishReason":"STOP"}]}'
    (made,) = parse_response(raw, ASKED).choices[0].tool_calls

    assert '{"a":1.0,"b":123456789012345678901}' == made.arguments


@pytest.mark.parametrize("args", [b"", b',"args":null', b',"args":{}'])
def test_a_call_without_arguments_has_none(args):
    raw = b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f"%b}}]}}]}' % args
    (made,) = parse_response(raw, ASKED).choices[0].tool_calls

    assert "{}" == made.arguments


def test_several_candidates():
    found = body({"text": "a"}, finish="STOP")
    found["candidates"].append({"content": {"parts": [{"text": "b"}]}, "finishReason": "STOP"})

    assert [(0, "a"), (1, "b")] == [(one.index, one.text) for one in whole(found).choices]


def test_pictures():
    part = {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}
    found = whole(body({"text": "See:"}, part, finish="STOP"))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}

    assert (ImagePart(url=picture["image_url"]["url"]),) == found.choices[0].images
    assert [picture] == json.loads(render_response(found))["choices"][0]["message"]["images"]
    deltas = streamed(sse(body(part, finish="STOP")))
    assert b'"images":[{' in OpenAIRenderer(include_usage=False).render(deltas)


@pytest.mark.behaviour(89)
def test_what_has_no_word_is_kept_in_googles():
    ran = {"executableCode": {"language": "PYTHON", "code": "1"}}
    ratings = [{"category": "HARM", "probability": "LOW"}]
    found = whole(body(ran, {"text": "1"}, finish="STOP", safetyRatings=ratings))

    assert {"candidate_0": {"safetyRatings": ratings, "parts": [ran]}} == found.extra


@pytest.mark.behaviour(89)
def test_sources_are_citations_of_the_passage():
    """Google counts bytes, OpenAI characters."""
    web = {"uri": "https://a", "title": "A"}
    grounding = {
        "groundingChunks": [{"web": web}],
        "groundingSupports": [
            {"segment": {"startIndex": 7, "endIndex": 11}, "groundingChunkIndices": [0, 7]}
        ],
    }
    (found,) = choice(
        body({"text": "Grüß "}, {"text": "dich"}, finish="STOP", groundingMetadata=grounding)
    ).annotations

    cited = found["url_citation"]
    assert ("dich", "https://a", "A") == (
        "Grüß dich"[cited["start_index"] : cited["end_index"]],
        cited["url"],
        cited["title"],
    )


@pytest.mark.behaviour(89)
def test_probabilities_of_tokens():
    result = {
        "chosenCandidates": [{"token": "ä", "tokenId": 1, "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "b", "logProbability": "-Infinity"}]}],
    }
    (token,) = choice(body({"text": "ä"}, finish="STOP", logprobsResult=result)).logprobs

    assert ("ä", -0.5, [195, 164]) == (token["token"], token["logprob"], token["bytes"])
    assert [{"token": "b", "logprob": -9999.0, "bytes": [98]}] == token["top_logprobs"]


USAGES = [
    pytest.param(
        {"promptTokenCount": 10, "candidatesTokenCount": 4, "thoughtsTokenCount": 6},
        Usage(input_tokens=10, output_tokens=10, reasoning_tokens=6),
        marks=pytest.mark.behaviour(153),
    ),
    (
        {"promptTokenCount": 10, "toolUsePromptTokenCount": 5, "cachedContentTokenCount": 8},
        Usage(input_tokens=15, cache_read_tokens=8),
    ),
    (
        {
            "promptTokenCount": 10,
            "cachedContentTokenCount": 4,
            "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 6}, {"modality": "TEXT"}],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 2}],
            "candidatesTokenCount": 3,
            "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 3}],
        },
        Usage(
            input_tokens=10,
            output_tokens=3,
            cache_read_tokens=4,
            cache_read_audio_tokens=2,
            input_audio_tokens=4,
            output_audio_tokens=3,
        ),
    ),
    (
        {"promptTokenCount": 1, "serviceTier": "standard"},
        Usage(input_tokens=1, service_tier="default"),
    ),
    ({"promptTokenCount": 1, "trafficType": "ON_DEMAND"}, Usage(input_tokens=1)),
    ({"totalTokenCount": 5}, None),
    (
        {
            "promptTokenCount": 100.0,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": "x",
            "cachedContentTokenCount": -1,
            "promptTokensDetails": [{"modality": "IMAGE", "tokenCount": 60.0}, None, {}],
            "cacheTokensDetails": 5,
            "serviceTier": "flex",
            "trafficType": 1,
        },
        Usage(input_tokens=100, output_tokens=5, input_image_tokens=60, service_tier="flex"),
    ),
    ({"promptTokenCount": -1, "candidatesTokenCount": 5}, Usage(output_tokens=5)),
    ({"promptTokenCount": -1, "candidatesTokenCount": "x"}, None),
    ([5], None),
]


@pytest.mark.parametrize(("metadata", "usage"), USAGES)
def test_usage(metadata, usage):
    told = body({"text": "x"}, finish="STOP", usage=metadata)

    assert usage == whole(told).usage == fold(streamed(sse(told))).usage


def test_what_else_is_wrong_than_a_count_stays_wrong():
    with pytest.raises(UpstreamError):
        whole({"candidates": 5, "usageMetadata": {"promptTokenCount": 100.5}})


def test_the_proof_of_a_text_is_no_block_after_it():
    """Clients of Anthropic's dialect look for the text in the last block."""
    found = whole(body({"text": "a", "thoughtSignature": "QUJD"}, finish="STOP"))
    renderer = MessagesRenderer(lambda prefix: f"{prefix}_1")

    shown = json.loads(render_message(found, lambda prefix: f"{prefix}_1"))
    assert [{"type": "text", "text": "a"}] == shown["content"]
    deltas = streamed(sse(body({"text": "a", "thoughtSignature": "QUJD"}, finish="STOP")))
    assert b"thinking" not in renderer.render(deltas).replace(b"thinking_tokens", b"")


PIECES = st.lists(
    st.sampled_from([
        {"text": "Grüß"},
        {"text": ""},
        {"text": "hm", "thought": True},
        {"text": "", "thoughtSignature": "QUJD"},
        {**call(a=1), "thoughtSignature": "QUJD"},
        call("_a_b"),
        {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
        {"codeExecutionResult": {"outcome": "OK"}},
    ]),
    min_size=1,
    max_size=6,
)  # fmt: skip


@pytest.mark.behaviour(110)
@given(parts=PIECES)
def test_a_stream_says_what_the_whole_answer_says(parts):
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 2}
    *first, last = parts
    chunks = [body(part) for part in first] + [body(last, finish="STOP", usage=usage)]

    assert whole(body(*parts, finish="STOP", usage=usage)) == fold(streamed(sse(*chunks)))


@pytest.mark.behaviour(99)
def test_the_finish_comes_last_and_once_though_gemini_repeats_it():
    twice = sse(body({"text": "a"}, finish="STOP"), body({"text": "b"}, finish="STOP"))
    deltas = streamed(twice, Asked(model="gemini-3-flash"))

    assert [None, None, None, FinishReason.STOP] == [delta.finish for delta in deltas]


@pytest.mark.behaviour(115)
def test_a_picture_of_some_megabytes_is_one_event():
    part = {"inlineData": {"mimeType": "image/png", "data": "A" * 5_000_000}}

    assert 1 == len(fold(streamed(sse(body(part, finish="STOP")))).choices[0].images)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"data: nonsense\n\n", FailureKind.MALFORMED),
        (b"<html>no</html>", FailureKind.MALFORMED),
        (
            b'[{"error":\n{"code": 429,\n"status":"RESOURCE_EXHAUSTED"}}\n]',
            FailureKind.RATE_LIMITED,
        ),
        (b'{\n  "error": {\n    "code": 503\n  }\n}\n', FailureKind.OVERLOADED),
        (b'data: {"error": {"code": 499, "status": "CANCELLED"}}\n\n', FailureKind.SERVER_ERROR),
    ],
)
def test_errors_in_a_stream(raw, kind):
    with pytest.raises(UpstreamError) as caught:
        streamed(sse(body({"text": "a"})) + raw)

    assert kind == caught.value.kind


@pytest.mark.parametrize("raw", [b"", b"[]", b"no", b'{"candidates":[]}', b'{"candidates":{}}'])
def test_what_is_no_answer(raw):
    with pytest.raises(UpstreamError) as caught:
        parse_response(raw, ASKED)

    assert FailureKind.MALFORMED == caught.value.kind


def failure(status, found, **headers):
    raw = found if isinstance(found, bytes) else json.dumps(found).encode()
    return GEMINI.error_of(HttpResponse(status=status, headers=headers, body=raw), "AIzaSecret1234")


@pytest.mark.behaviour(136)
@pytest.mark.parametrize(
    "message",
    [
        "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
        "The input token count exceeds the maximum number of tokens allowed 1048576.",
        "Unable to submit: the input token count is 9 but model only supports up to 8. Reduce it.",
    ],
)
def test_a_context_that_is_too_long(message):
    error = failure(400, {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}})

    assert FailureKind.CONTEXT_LENGTH == error.kind
    assert "context_length_exceeded" == error.upstream_code


def test_prose_alone_decides_nothing():
    """A caller's own words come back in some errors."""
    text = "Unknown name 'the input token count exceeds'"
    error = failure(400, {"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}})

    assert FailureKind.REJECTED == error.kind


@pytest.mark.behaviour(132)
def test_a_header_is_the_better_hint():
    details = [{"@type": "google.rpc.RetryInfo", "retryDelay": "14s"}]
    error = {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details}

    assert 14.0 == failure(429, {"error": error}).retry_after_s
    assert 3.0 == failure(429, {"error": error}, **{"retry-after": "3"}).retry_after_s


@pytest.mark.behaviour(128)
@pytest.mark.parametrize(
    ("found", "message"),
    [
        (b"", "The provider answered 500 without a text."),
        (b"plain", "plain"),
        ({"error": "text"}, "text"),
        ([], "The provider answered 500 without a text."),
        ({"error": {"code": 500, "details": "odd", "message": 5}}, "5"),
    ],
)
def test_errors_of_any_shape(found, message):
    error = failure(500, found)

    assert (FailureKind.SERVER_ERROR, message) == (error.kind, error.message)


@pytest.mark.behaviour(141)
def test_the_key_is_hidden():
    assert "AIzaSecret1234" not in failure(400, {"error": {"message": "AIzaSecret1234?"}}).message
