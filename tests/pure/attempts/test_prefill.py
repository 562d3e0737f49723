"""A question with the beginning of its answer."""

import json

import pytest

from shared.attempts.prefill import prefilled
from shared.providers.request import InferenceRequest, RequestHead

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
TURNS = [{"role": "user", "content": "tell"}]
SAID = {"role": "assistant", "content": "one "}


def request_of(endpoint: str = CHAT, **body: object) -> InferenceRequest:
    return InferenceRequest(
        endpoint=endpoint, dialect="", raw=json.dumps(body).encode(), head=RequestHead(model="m")
    )


@pytest.mark.parametrize(
    ("endpoint", "body", "asked"),
    [
        (CHAT, {"messages": TURNS, "top_k": 3}, {"messages": [*TURNS, SAID], "top_k": 3}),
        ("/v1/messages", {"messages": TURNS}, {"messages": [*TURNS, SAID]}),
        (RESPONSES, {"input": "tell"}, {"input": [*TURNS, SAID]}),
        (RESPONSES, {"input": TURNS}, {"input": [*TURNS, SAID]}),
        (
            RESPONSES,
            {"input": [{"type": "function_call_output", "call_id": "c", "output": "4"}]},
            {"input": [{"type": "function_call_output", "call_id": "c", "output": "4"}, SAID]},
        ),
        (
            RESPONSES,
            {"input": "tell", "text": {"format": {"type": "text"}, "verbosity": "low"}},
            {
                "input": [*TURNS, SAID],
                "text": {"format": {"type": "text"}, "verbosity": "low"},
            },
        ),
        (
            CHAT,
            {"messages": TURNS, "response_format": {"type": "text"}},
            {"messages": [*TURNS, SAID], "response_format": {"type": "text"}},
        ),
        (COMPLETIONS, {"prompt": "count: "}, {"prompt": "count: one "}),
        (COMPLETIONS, {"prompt": ["count: "]}, {"prompt": "count: one "}),
        (COMPLETIONS, {"prompt": "a", "echo": False}, {"prompt": "aone ", "echo": False}),
    ],
)
def test_the_beginning_stands_last(endpoint: str, body: object, asked: object):
    text, raw = prefilled(request_of(endpoint, **body), "one ") or ("", b"")

    assert "one " == text
    assert asked == json.loads(raw)


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (CHAT, {"messages": TURNS, "response_format": {"type": "json_object"}}),
        (CHAT, {"messages": TURNS, "reasoning_effort": "low"}),
        (CHAT, {"messages": TURNS, "thinking": {"type": "enabled", "budget_tokens": 2000}}),
        (CHAT, {"messages": [*TURNS, SAID]}),
        (CHAT, {"messages": []}),
        (RESPONSES, {"input": "tell", "reasoning": {"effort": "low"}}),
        (RESPONSES, {"input": "tell", "text": {"format": {"type": "json_object"}}}),
        (RESPONSES, {"input": [*TURNS, SAID]}),
        (RESPONSES, {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}),
        (RESPONSES, {"prompt": {"id": "pmpt_1"}}),
        (COMPLETIONS, {"prompt": "a", "suffix": "z"}),
        (COMPLETIONS, {"prompt": "a", "echo": True}),
        (COMPLETIONS, {"prompt": ["a", "b"]}),
        (COMPLETIONS, {"prompt": [1, 2, 3]}),
        (RESPONSES, {"input": ["hi"]}),
        (RESPONSES, {"input": [None]}),
        (RESPONSES, {"input": [{"type": ["a"]}]}),
        (RESPONSES, {"input": "tell", "text": "x"}),
        (RESPONSES, {"input": "tell", "text": {"format": "text"}}),
        (CHAT, {"messages": TURNS, "response_format": "text"}),
    ],
)
def test_where_a_beginning_is_no_use(endpoint: str, body: object):
    """A form is asked for, or thoughts, or the answer has no place at its end, or it is odd."""
    assert prefilled(request_of(endpoint, **body), "one ") is None


@pytest.mark.parametrize(("text", "given"), [("one ", "one"), (" one\n", " one"), (" \n", None)])
def test_no_white_space_at_the_end_where_it_is_refused(text: str, given: str | None):
    found = prefilled(request_of(messages=TURNS), text, bare=True)

    assert given == (None if found is None else found[0])
