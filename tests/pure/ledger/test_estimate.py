"""What a call holds before anyone knows, and what a cut one is charged."""

import json

import msgspec
import pytest

from shared.chat.usage import MOST_TOKENS
from shared.gateway.parse import parse_request
from shared.ledger.estimate import MOST_OUTPUT_TOKENS, counted_tokens, guessed_usage, worst_case
from tests.pure.providers.test_adapters import asked


def body(*messages, **fields):
    return asked(messages=list(messages), **fields)


def read(*messages):
    """Return the request as it comes to be of a caller's body."""
    return parse_request("/v1/chat/completions", body(*messages).raw)


USER = {"role": "user", "content": "x" * 1_000}


def test_half_the_bytes_and_eight_per_message():
    request = body(USER)

    assert -(-len(request.raw) // 2) + 8 == worst_case(request, hold_output_tokens=9).input_tokens


@pytest.mark.parametrize(
    ("fields", "output"),
    [
        ({}, 4096),
        ({"max_tokens": 50}, 50),
        ({"max_completion_tokens": 60, "max_tokens": 50}, 60),
        ({"max_tokens": 50, "n": 3}, 150),
        ({"n": 0}, 4096),
        ({"n": -2}, 4096),
        ({"max_tokens": -3}, 4096),
        ({"max_tokens": -1, "max_completion_tokens": 50}, 4096),
        ({"max_tokens": 0}, 4096),
        ({"max_tokens": 0, "max_completion_tokens": 50}, 50),
        ({"max_tokens": None, "max_completion_tokens": 50}, 50),
        ({"max_completion_tokens": 1, "max_tokens": 50}, 50),
        ({"max_output_tokens": 1}, 4096),
        ({"max_tokens": 10**12, "n": 10**12}, MOST_TOKENS),
    ],
)
def test_output_is_the_callers_bound_or_ours(fields, output):
    assert output == worst_case(body(USER, **fields), hold_output_tokens=4096).output_tokens


@pytest.mark.parametrize(
    ("endpoint", "fields", "output"),
    [
        ("/v1/messages", {"max_tokens": 100, "max_completion_tokens": 1}, 100),
        ("/v1/messages", {"max_tokens": 100, "max_output_tokens": 500}, 100),
        ("/v1/messages", {"max_completion_tokens": 1}, 4096),
        ("/v1/completions", {"max_tokens": 100, "max_completion_tokens": 1}, 100),
        ("/v1/responses", {"max_output_tokens": 100, "max_tokens": 1}, 100),
        ("/v1/responses", {"max_tokens": 1}, 4096),
        ("/v1/responses", {"max_output_tokens": -1}, 4096),
        ("/v1/images/generations", {"max_tokens": 1}, 6_240),
    ],
)
def test_a_bound_counts_by_the_name_that_the_endpoint_knows(endpoint, fields, output):
    """Else a word that nobody reads would make the hold as small as a caller likes."""
    assert output == worst_case(asked(endpoint, **fields), hold_output_tokens=4096).output_tokens


@pytest.mark.parametrize(
    ("fields", "choices"),
    [
        ({"prompt": "hi"}, 1),
        ({"prompt": "hi", "n": 3}, 3),
        ({"prompt": "hi", "best_of": 10}, 10),
        ({"prompt": "hi", "best_of": 2, "n": 3}, 3),
        ({"prompt": "hi", "best_of": -2}, 1),
        ({"prompt": []}, 1),
        ({"prompt": ["hi"]}, 1),
        ({"prompt": ["hi"] * 20}, 20),
        ({"prompt": ["hi"] * 20, "best_of": 10, "n": 2}, 200),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1, 2, 3]]}, 1),
        ({"prompt": [[1, 2, 3], [4]], "n": 2}, 4),
    ],
)
def test_a_completion_holds_all_that_is_made_for_all_its_prompts(fields, choices):
    request = asked("/v1/completions", max_tokens=100, **fields)

    assert 100 * choices == worst_case(request, hold_output_tokens=9).output_tokens


def test_only_completions_take_the_best_of_some():
    request = body(USER, best_of=10, prompt=["a", "b"], max_tokens=100)

    assert 100 == worst_case(request, hold_output_tokens=9).output_tokens


def test_vectors_have_no_output():
    request = asked("/v1/embeddings", input="hello")

    assert 0 == worst_case(request, hold_output_tokens=4096).output_tokens
    assert 0 == guessed_usage(request, 5_000).output_tokens


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}},
            2_000,
        ),
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, 2_000),
        ({"type": "input_audio", "input_audio": {"data": "A" * 160_000, "format": "wav"}}, 10_000),
        ({"type": "file", "file": {"filename": "a", "file_data": "A" * 160_000}}, 10_000),
    ],
    ids=["inline image", "linked image", "audio", "file"],
)
def test_media_count_by_rule_not_by_their_base64(part, tokens):
    estimate = worst_case(body({"role": "user", "content": [part]}), hold_output_tokens=1)

    assert tokens <= estimate.input_tokens <= tokens + 120


@pytest.mark.parametrize(
    "content",
    [
        "hello",
        'say "image_url" and "file"',
        None,
        [{"type": "text", "text": "hello"}],
        [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4_000}}],
    ],
)
def test_what_a_look_at_the_messages_told_changes_no_estimate(content):
    request = read(USER, {"role": "assistant", "content": content})
    unread = msgspec.structs.replace(request, history=None)

    assert not unread.only_text
    assert request.only_text is (not isinstance(content, list))
    assert worst_case(unread, hold_output_tokens=9) == worst_case(request, hold_output_tokens=9)


def test_what_another_body_held_tells_nothing_of_this_one():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
    other = read({"role": "user", "content": [picture]})
    request = msgspec.structs.replace(read(USER), raw=other.raw)

    assert not request.only_text
    assert worst_case(request, hold_output_tokens=9).input_tokens < 10_000


def test_base64_as_plain_text_is_text():
    """Else a caller could talk past the wall."""
    plain = {"role": "user", "content": 'data:image/png;base64,"image_url"' + "A" * 40_000}

    assert 20_000 < worst_case(body(plain), hold_output_tokens=1).input_tokens


@pytest.mark.behaviour(157, 159)
def test_a_cut_stream_is_charged_for_what_was_sent_and_seen():
    request = body(USER)
    guess = guessed_usage(request, 41)

    assert guess.estimated
    assert (-(-len(json.dumps(json.loads(request.raw))) // 4) + 8, 11) == (
        guess.input_tokens,
        guess.output_tokens,
    )


def test_a_bound_no_model_reaches_is_cut():
    """Else a caller's 10^12 would be what a lost attempt costs."""
    request = body(USER, max_tokens=10**12, n=2)

    worst = worst_case(request, hold_output_tokens=9)

    assert 2 * MOST_OUTPUT_TOKENS == worst.output_tokens


@pytest.mark.parametrize("endpoint", ["/v1/moderations", "/v1/rerank"])
def test_judgements_have_no_output(endpoint):
    assert 0 == worst_case(asked(endpoint, input="hello"), hold_output_tokens=4096).output_tokens


def test_sound_is_held_by_its_length_and_guessed_by_the_usual_rate():
    """A megabyte is a quarter of an hour at the lowest rate and a minute at the usual one."""
    request = asked("/v1/audio/transcriptions", file="x" * 960_000)

    held, guessed = worst_case(request, hold_output_tokens=9), guessed_usage(request, 0)

    assert 960 <= held.input_audio_ms / 1000 < 961
    assert 60 <= guessed.input_audio_ms / 1000 < 61
    assert (held.input_tokens, guessed.input_tokens) == (
        held.input_audio_tokens,
        guessed.input_audio_tokens,
    )


def test_speech_is_held_by_its_characters():
    held = worst_case(asked("/v1/audio/speech", input="x" * 500), hold_output_tokens=9)

    assert held.input_characters > 500


PICTURE = {"type": "image", "source": {"type": "base64", "data": "A" * 400_000}}


@pytest.mark.parametrize(
    ("block", "tokens"),
    [
        (PICTURE, 2_000),
        ({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}, 2_000),
        ({"type": "document", "source": {"type": "base64", "data": "A" * 160_000}}, 10_000),
        ({"type": "tool_result", "tool_use_id": "t", "content": [PICTURE]}, 2_000),
        ({"type": "document", "source": {"type": "text", "data": "A" * 20_000}}, 10_000),
    ],
    ids=["inline image", "linked image", "document", "image in a result", "text"],
)
def test_media_in_anthropics_words_count_by_the_same_rule(block, tokens):
    request = asked("/v1/messages", messages=[{"role": "user", "content": [block]}])

    estimate = worst_case(request, hold_output_tokens=1)

    assert tokens <= estimate.input_tokens <= tokens + 120


DATA = "data:image/png;base64," + "A" * 400_000
SHOWN = {"type": "input_image", "image_url": DATA}
FILE = {"type": "input_file", "filename": "a.pdf", "file_data": "A" * 160_000}
SOUND = {"type": "input_audio", "input_audio": {"data": "A" * 160_000, "format": "wav"}}


def said(*parts):
    return {"role": "user", "content": [{"type": "input_text", "text": "hello"}, *parts]}


@pytest.mark.parametrize(
    ("items", "tokens"),
    [
        ([said(SHOWN)], 2_000),
        ([said({"type": "input_image", "image_url": "https://example.com/a.png"})], 2_000),
        ([said({"type": "input_image", "file_id": "file_1"})], 2_000),
        ([said(FILE)], 10_000),
        ([said(SOUND)], 10_000),
        ([said(SHOWN, FILE), {"type": "message", **said(SHOWN)}], 14_000),
        ([{"type": "function_call_output", "call_id": "c", "output": [SHOWN]}], 2_000),
        ([{"type": "custom_tool_call_output", "call_id": "c", "output": [FILE]}], 10_000),
        ([{"type": "computer_call_output", "call_id": "c", "output": SHOWN}], 2_000),
        ([{"type": "image_generation_call", "id": "i", "result": "A" * 400_000}], 2_000),
        ([{"role": "user", "content": "hello"}, said(SHOWN)], 2_000),
        ([said(SHOWN, {"type": "input_image", "image_url": None, "detail": 5})], 4_000),
        ([said({"type": "input_text", "text": '"image_url"' + "A" * 20_000})], 10_000),
        ([said({"type": "input_file", "file_id": "f"})], 0),
        ([{"type": "function_call_output", "call_id": "c", "output": DATA[:20_000]}], 10_000),
        ([said(SHOWN), {"role": "user", "content": [DATA[:20_000]]}], 210_000),
        ('say "image_url": ' + DATA[:20_000], 10_000),
    ],
    ids=[
        "inline image", "linked image", "known image", "file", "sound", "three of them",
        "image in a result", "file in a result", "screenshot", "made image", "after words",
        "image of nothing", "text", "known file", "result in words", "no list of parts", "words",
    ],
)  # fmt: skip
def test_media_of_responses_count_by_the_same_rule(items, tokens):
    request = asked("/v1/responses", input=items)

    estimate = worst_case(request, hold_output_tokens=1)

    assert tokens <= estimate.input_tokens <= tokens + 250


def test_counting_tokens_holds_and_costs_nothing():
    request = asked("/v1/messages/count_tokens", messages=[USER])

    assert 0 == worst_case(request, hold_output_tokens=4096).input_tokens
    assert 0 == guessed_usage(request, 0).input_tokens
    assert counted_tokens(request) > 250
