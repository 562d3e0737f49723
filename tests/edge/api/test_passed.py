"""Endpoints passed to providers that have them, by OpenAI's own client where it knows them."""

import json

import httpx
import openai
import pytest

from tests.edge.api.gateways import gateway, one_route, sdk
from tests.fakes.upstream import Answer, running_upstream, sse, status

MP3 = bytes(range(256)) * 8
FORM = {"content-type": "text/plain; charset=utf-8"}


def body(found, kind="application/json"):
    raw = found if isinstance(found, bytes) else json.dumps(found).encode()
    return Answer(headers={"content-type": kind}, pieces=(raw,))


def events(*said):
    pieces = [f"data: {json.dumps(one)}\n\n".encode() for one in said]
    return sse(pieces, gap_s=0.01)


@pytest.fixture
async def upstream():
    async with running_upstream() as started:
        yield started


@pytest.fixture
async def http(upstream, tmp_path, sqlite_url):
    provider = {"kind": "openai", "api_key": "sk-up", "base_url": upstream.base_url()}
    other = {"kind": "openai_compatible", "base_url": upstream.base_url()}
    groq = {"kind": "groq", "api_key": "gsk-1", "base_url": upstream.base_url()}
    config = one_route(provider, "m-1", price={"input_per_mtok": "2", "output_per_mtok": "4"})
    config["providers"] |= {"other": other, "groq": groq}
    config["routes"] += [
        {"model": "omni-moderation-latest", "targets": [{"provider": "vendor", "model": "omni"}]},
        {"model": "rank", "targets": [{"provider": "other", "model": "bge"}]},
        {"model": "fast", "targets": [{"provider": "groq", "model": "llama"}]},
        {"model": "whisper", "targets": [{"provider": "vendor", "model": "whisper-1"}]},
        {"model": "tts", "targets": [{"provider": "vendor", "model": "tts-1"}]},
    ]
    async with gateway(tmp_path, sqlite_url, config) as client:
        yield client


@pytest.fixture
def client(http):
    return sdk(http)


def cost_of(raw):
    return raw.headers.get("x-sluiceway-cost-usd")


async def test_moderation(client, upstream):
    """The client names no model: OpenAI's default is meant."""
    found = {"flagged": True, "categories": {}, "category_scores": {}}
    upstream.script("up", body({"id": "modr-1", "model": "omni-1", "results": [found]}))

    answer = await client.moderations.create(input="You fool")

    assert answer.results[0].flagged
    (sent,) = upstream.requests
    assert "/up/v1/moderations" == sent.path
    assert {"model": "omni", "input": "You fool"} == sent.json


async def test_pictures(client, upstream):
    """Tokens of pictures are counted and charged."""
    usage = {"input_tokens": 10, "output_tokens": 1000, "total_tokens": 1010}
    picture = {"created": 1, "data": [{"b64_json": "AAAA"}], "usage": usage}
    upstream.script("up", body(picture))

    raw = await client.images.with_raw_response.generate(model="chat", prompt="A sluice")

    assert "AAAA" == raw.parse().data[0].b64_json
    assert "0.00402" == cost_of(raw)
    assert {"model": "m-1", "prompt": "A sluice"} == upstream.requests[0].json


async def test_pictures_in_parts(client, upstream):
    usage = {"input_tokens": 10, "output_tokens": 1000, "total_tokens": 1010}
    upstream.script(
        "up",
        events(
            {"type": "image_generation.partial_image", "b64_json": "AA", "partial_image_index": 0},
            {"type": "image_generation.completed", "b64_json": "AAAA", "usage": usage},
        ),
    )

    stream = await client.images.generate(model="chat", prompt="A sluice", stream=True)

    assert ["AA", "AAAA"] == [event.b64_json async for event in stream]


async def test_a_stream_that_is_cut_is_an_error(client, upstream):
    first = {"type": "image_generation.partial_image", "b64_json": "AA", "partial_image_index": 0}
    upstream.script("up", events(first))

    stream = await client.images.generate(model="chat", prompt="A sluice", stream=True)

    with pytest.raises(openai.APIError, match="broke off"):
        [event async for event in stream]


async def test_speech(client, upstream):
    """Bytes and their type as they came; sold by the character where the list says so."""
    upstream.script("up", body(MP3, "audio/mpeg"))

    raw = await client.audio.speech.with_raw_response.create(model="tts", input="Hi!", voice="ash")

    assert MP3 == raw.content
    assert "audio/mpeg" == raw.headers["content-type"]
    assert "0.000045" == cost_of(raw)
    assert {"model": "tts-1", "input": "Hi!", "voice": "ash"} == upstream.requests[0].json


async def test_speech_as_events(http, upstream):
    usage = {"input_tokens": 3, "output_tokens": 7, "total_tokens": 10}
    upstream.script(
        "up",
        events(
            {"type": "speech.audio.delta", "audio": "AAAA"},
            {"type": "speech.audio.done", "usage": usage},
        ),
    )
    asked = {"model": "tts", "input": "Hi!", "voice": "ash", "stream_format": "sse"}

    answer = await http.post("/v1/audio/speech", json=asked)

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert ["speech.audio.delta", "speech.audio.done"] == [
        json.loads(event.removeprefix("data: "))["type"] for event in answer.text.split("\n\n")[:-1]
    ]


async def test_speech_that_is_json_is_malformed(client, upstream):
    upstream.script("up", body({"ok": True}))

    with pytest.raises(openai.APIStatusError) as caught:
        await client.audio.speech.create(model="tts", input="Hi!", voice="ash")

    assert "upstream_malformed" == caught.value.code


async def test_a_transcript(client, upstream):
    """The form goes on with another model's name; the file's bytes do not change."""
    usage = {"type": "duration", "seconds": 36}
    upstream.script("up", body({"text": "Hello", "usage": usage}))

    raw = await client.audio.transcriptions.with_raw_response.create(
        model="whisper", file=("a.mp3", MP3), language="de"
    )

    assert "Hello" == raw.parse().text
    assert "0.0036" == cost_of(raw)
    sent = upstream.requests[0]
    assert sent.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'name="model"\r\n\r\nwhisper-1\r\n' in sent.body
    assert b'name="language"\r\n\r\nde\r\n' in sent.body
    assert MP3 in sent.body


async def test_a_transcript_as_text(client, upstream):
    upstream.script("up", body(b"Hello\n", "text/plain; charset=utf-8"))

    text = await client.audio.transcriptions.create(
        model="whisper", file=("a.mp3", MP3), response_format="text"
    )

    assert "Hello\n" == text


async def test_a_transcript_as_it_comes(client, upstream):
    upstream.script(
        "up",
        events(
            {"type": "transcript.text.delta", "delta": "Hel"},
            {"type": "transcript.text.done", "text": "Hello"},
        ),
    )

    stream = await client.audio.transcriptions.create(
        model="whisper", file=("a.mp3", MP3), stream=True
    )

    assert ["transcript.text.delta", "transcript.text.done"] == [
        event.type async for event in stream
    ]


@pytest.mark.parametrize(
    ("fields", "files", "param"),
    [
        ({"model": "whisper"}, {"file": ("a.mp3", b"")}, "file"),
        ({"model": "whisper"}, {"other": ("a.mp3", b"x")}, "file"),
        ({}, {"file": ("a.mp3", b"x")}, "model"),
        ({"model": ""}, {"file": ("a.mp3", b"x")}, "model"),
    ],
)
async def test_a_form_that_lacks_something(http, fields, files, param):
    answer = await http.post("/v1/audio/transcriptions", data=fields, files=files)

    error = answer.json()["error"]
    assert (400, "invalid_request", param) == (answer.status_code, error["code"], error["param"])


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json"},
        {"content-type": "multipart/form-data"},
        {"content-type": "multipart/form-data; boundary=x"},
    ],
)
async def test_a_body_that_is_no_form(http: httpx.AsyncClient, headers):
    answer = await http.post("/v1/audio/transcriptions", content=b"{}", headers=headers)

    assert 400 == answer.status_code


async def test_reranking(http, upstream):
    """The answer is the provider's, to the byte."""
    raw = b'{"id":"r-1","results":[{"index":1,"relevance_score":0.9}],"usage":{"total_tokens":9}}'
    upstream.script("up", body(raw))

    answer = await http.post(
        "/v1/rerank", json={"model": "rank", "query": "q", "documents": ["a", "b"], "top_n": 1}
    )

    assert raw == answer.content
    sent = upstream.requests[0]
    assert "/up/v1/rerank" == sent.path
    assert {"model": "bge", "query": "q", "documents": ["a", "b"], "top_n": 1} == sent.json


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/rerank", {"query": "q", "documents": ["a"]}),
        ("/v1/moderations", {"input": "a"}),
        ("/v1/images/generations", {"prompt": "a"}),
        ("/v1/embeddings", {"input": "a"}),
    ],
)
async def test_a_provider_without_it(http, upstream, path, asked):
    answer = await http.post(path, json={"model": "fast", **asked})

    assert (400, "unsupported_parameter") == (answer.status_code, answer.json()["error"]["code"])
    assert [] == upstream.requests


async def test_errors_are_those_of_every_endpoint(client, upstream):
    error = {"message": "Unsafe", "type": "image_generation_user_error", "param": None}
    upstream.script("up", status(400, {**error, "code": "moderation_blocked"}))

    with pytest.raises(openai.BadRequestError) as caught:
        await client.images.generate(model="chat", prompt="A sluice")

    assert "moderation_blocked" == caught.value.code


async def test_what_can_be_a_job(http):
    """Forms and sound cannot: a job's question and answer are JSON."""
    answer = await http.post("/v1/jobs", json={"endpoint": "/v1/audio/speech", "body": {}})

    listed = answer.json()["error"]["message"]
    assert 400 == answer.status_code
    assert "/v1/rerank" in listed
    assert "audio" not in listed.replace("/v1/audio/speech is", "")
