"""What is passed on: who has it, what was used, and streams however they are cut."""

import json

import pytest

from shared.chat.usage import Usage
from shared.errors import UnsupportedParameter, UpstreamError
from shared.providers.dialects.passed import ENDPOINTS, PassedExchange, counted
from shared.providers.exchange import HttpRequest, HttpResponse
from tests.pure.providers.test_adapters import asked, exchange

IMAGES, SPEECH = "/v1/images/generations", "/v1/audio/speech"
MODERATIONS, RERANK = "/v1/moderations", "/v1/rerank"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
HAVE = {
    "openai": {IMAGES, SPEECH, MODERATIONS, TRANSCRIPTIONS},
    "azure_openai": {IMAGES, SPEECH, TRANSCRIPTIONS},
    "openai_compatible": set(ENDPOINTS),
    "groq": {SPEECH, TRANSCRIPTIONS},
    "mistral": {MODERATIONS, TRANSCRIPTIONS},
    "together": {IMAGES, RERANK, SPEECH, TRANSCRIPTIONS},
    "xai": {IMAGES},
    "vllm": {RERANK, TRANSCRIPTIONS},
    "cohere": {RERANK},
    "deepseek": set(),
    "ollama": set(),
    "anthropic": set(),
    "gemini": set(),
}


def passes(kind, endpoint):
    request = asked(endpoint, input="a", prompt="a", query="a", documents=["a"])
    try:
        return bool(exchange(kind, request=request, base_url="http://up").request)
    except UnsupportedParameter:
        return False


@pytest.mark.parametrize("kind", HAVE)
def test_who_has_what(kind):
    assert HAVE[kind] == {endpoint for endpoint in ENDPOINTS if passes(kind, endpoint)}


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({}, None),
        ({"usage": "much"}, None),
        ({"usage": {"type": "duration", "seconds": 1.5}}, Usage(input_audio_ms=1500)),
        ({"duration": 2}, Usage(input_audio_ms=2000)),
        ({"usage": {"total_tokens": 9}}, Usage(input_tokens=9)),
        ({"usage": {"prompt_tokens": 9, "total_tokens": 9}}, Usage(input_tokens=9)),
        (
            {
                "usage": {
                    "input_tokens": 9,
                    "output_tokens": 4,
                    "input_token_details": {"audio_tokens": 8, "text_tokens": 1},
                }
            },
            Usage(input_tokens=9, output_tokens=4, input_audio_tokens=8),
        ),
        (
            {
                "usage": {
                    "input_tokens": 9,
                    "output_tokens": 4,
                    "input_tokens_details": {"image_tokens": 99},
                    "output_tokens_details": {"image_tokens": 3},
                }
            },
            Usage(input_tokens=9, output_tokens=4, input_image_tokens=9, output_image_tokens=3),
        ),
        (
            {"usage": {"cost_in_usd_ticks": 200_000_000}},
            Usage(reported_nanousd=20_000_000, estimated=True),
        ),
    ],
)
def test_what_was_used_is_read_by_all_its_names(answer, usage):
    assert usage == counted(answer)


def passed(endpoint=IMAGES):
    request = HttpRequest(url="http://up", headers={}, body=b"{}")
    return PassedExchange(request=request, endpoint=endpoint, secret="sk-up")


def events(*said):
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (one["type"].encode(), json.dumps(one).encode())
        for one in said
    )


WHOLE = events(
    {"type": "image_generation.partial_image", "b64_json": "AA", "text": "ü"},
    {"type": "image_generation.completed", "usage": {"input_tokens": 1, "output_tokens": 2}},
)


@pytest.mark.parametrize("size", [1, 7, len(WHOLE)])
def test_streams_however_they_are_cut(size):
    scanner = passed().scanner()
    scans = [scanner.feed(WHOLE[at : at + size]) for at in range(0, len(WHOLE), size)]
    scans.append(scanner.finish())

    assert WHOLE == b"".join(scan.out for scan in scans)
    assert 2 == sum(scan.content_events for scan in scans)
    assert (None, True) == (scans[-1].error, scans[-1].finished)
    assert Usage(input_tokens=1, output_tokens=2) == scanner.usage
    assert b"" == scanner.closing("0.1")


def test_an_end_mark_goes_on():
    scanner = passed().scanner()
    scanner.feed(WHOLE + b"data: [DONE]\n\n")

    assert b"data: [DONE]\n\n" == scanner.closing(None)


@pytest.mark.parametrize(
    "raw",
    [
        WHOLE[:80],
        b"data: [DONE]\n\n",
        b"data: oops\n\n",
        b'event: error\ndata: {"error":{"message":"bad sk-up"}}\n\n',
        b'data: {"error":{"message":"bad sk-up"}}\n\n',
    ],
)
def test_a_stream_that_is_not_whole_fails(raw):
    scanner = passed().scanner()
    error = scanner.feed(raw).error or scanner.finish().error

    assert error is not None
    assert "sk-up" not in error.message


@pytest.mark.parametrize(
    ("endpoint", "kind", "body"),
    [
        (IMAGES, "text/html", b"<html>"),
        (IMAGES, "application/json", b"oops"),
        (IMAGES, "application/json", b'{"error": {"message": "no"}}'),
        (SPEECH, "application/json", b"{}"),
    ],
)
def test_an_answer_that_is_none_fails(endpoint, kind, body):
    with pytest.raises(UpstreamError):
        passed(endpoint).read(HttpResponse(status=200, headers={"content-type": kind}, body=body))
