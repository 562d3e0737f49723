"""A stream that breaks off is charged for what it was told and what it gave."""

import msgspec
import pytest

from shared.chat.usage import Usage
from shared.ledger.estimate import guessed_usage, known_usage
from tests.pure.providers.test_adapters import asked

REQUEST = asked(messages=[{"role": "user", "content": "x" * 100}])
GUESSED = guessed_usage(REQUEST, 80)


@pytest.mark.behaviour(159)
@pytest.mark.parametrize(
    ("told", "used"),
    [
        (None, (GUESSED.input_tokens, 20, 0)),
        (Usage(input_tokens=70, output_tokens=1, cache_read_tokens=9, estimated=True), (70, 20, 9)),
        (Usage(input_tokens=70, output_tokens=30, estimated=True), (70, 30, 0)),
        (Usage(output_tokens=30), (GUESSED.input_tokens, 30, 0)),
        (Usage(input_tokens=-70, output_tokens=30), (GUESSED.input_tokens, 30, 0)),
    ],
    ids=["nothing told", "the head told", "more told than seen", "no input told", "less than none"],
)
def test_what_a_cut_stream_used(told, used):
    usage = known_usage(REQUEST, told, 80)

    assert used == (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens)
    assert usage.estimated


@pytest.mark.parametrize(
    ("told", "tier"),
    [
        (None, "priority"),
        (Usage(input_tokens=70, output_tokens=1, estimated=True), "priority"),
        (Usage(input_tokens=70, output_tokens=30), "priority"),
        (Usage(input_tokens=70, output_tokens=30, service_tier="flex"), "flex"),
    ],
    ids=["nothing told", "the head told", "all but the tier told", "all told"],
)
def test_a_cut_stream_is_of_the_tier_that_it_told(told, tier):
    """What it told with its counts comes first."""
    usage = known_usage(REQUEST, told, 80, service_tier="priority")

    assert tier == usage.service_tier
    assert known_usage(REQUEST, told, 80) == msgspec.structs.replace(
        usage, service_tier=None if told is None else told.service_tier
    )


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("/v1/chat/completions", Usage(input_tokens=70)),
        ("/v1/embeddings", Usage()),
        ("/v1/moderations", Usage()),
        ("/v1/audio/speech", Usage(input_characters=9, estimated=True)),
    ],
)
def test_what_is_counted_stays(endpoint, told):
    """An empty answer has no output; what is not asked in words need not have an input."""
    assert told is known_usage(asked(endpoint, input="x", messages=[]), told, 80)


def test_a_cut_picture_is_not_charged_by_its_base64():
    guess = guessed_usage(asked("/v1/images/generations", prompt="x", n=2), 3_000_000)

    assert (12_480, 12_480) == (guess.output_tokens, guess.output_image_tokens)
