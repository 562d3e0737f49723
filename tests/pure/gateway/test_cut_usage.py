"""A stream that breaks off is charged for what it was told and what it gave."""

import pytest

from shared.chat.usage import Usage
from shared.gateway.runner import filled_up

GUESSED = Usage(input_tokens=50, output_tokens=20, estimated=True)


@pytest.mark.behaviour(159)
@pytest.mark.parametrize(
    ("told", "used"),
    [
        (None, (50, 20, 0)),
        (Usage(input_tokens=70, output_tokens=1, cache_read_tokens=9, estimated=True), (70, 20, 9)),
        (Usage(input_tokens=70, output_tokens=30, estimated=True), (70, 30, 0)),
    ],
    ids=["nothing told", "the head told", "more told than seen"],
)
def test_what_a_cut_stream_used(told, used):
    usage = filled_up(told, GUESSED)

    assert used == (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens)
    assert usage.estimated
