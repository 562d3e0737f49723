"""How much a whole answer says, where its provider has not counted it."""

import json

import pytest

from shared.chat.usage import Usage
from shared.gateway.said import said_bytes, used_by
from shared.providers.exchange import Reply
from tests.pure.providers.test_adapters import asked

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
COMPLETIONS, RESPONSES = "/v1/completions", "/v1/responses"
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "12345"}}


def message(**fields):
    return {"choices": [{"index": 0, "message": {"role": "assistant", **fields}}]}


@pytest.mark.parametrize(
    ("endpoint", "body", "said"),
    [
        (CHAT, message(content="hello"), 5),
        (CHAT, message(content="hé"), 3),
        (CHAT, message(content=""), 0),
        (CHAT, message(content=None, reasoning_content="hm"), 2),
        (CHAT, message(content=None, tool_calls=[CALL]), 6),
        (CHAT, message(content=[{"type": "text", "text": "hello"}]), 5),
        (
            CHAT,
            {"choices": [*message(content="a")["choices"], *message(content="b")["choices"]]},
            2,
        ),
        (COMPLETIONS, {"choices": [{"text": "hello", "finish_reason": "stop"}]}, 5),
        (MESSAGES, {"content": [{"type": "text", "text": "hello"}]}, 5),
        (MESSAGES, {"content": [{"type": "thinking", "thinking": "hm", "signature": "x"}]}, 2),
        (MESSAGES, {"content": [{"type": "tool_use", "name": "f", "input": {"a": 1}}]}, 8),
        (MESSAGES, {"content": []}, 0),
        (
            RESPONSES,
            {
                "output": [
                    {"type": "message", "content": [{"type": "output_text", "text": "hello"}]}
                ]
            },
            5,
        ),
        (RESPONSES, {"output": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, 3),
        (RESPONSES, {"output": [], "text": {"format": {"type": "text"}}}, 0),
        ("/v1/embeddings", {"data": [{"embedding": "AAAA"}]}, 0),
    ],
)
def test_words_and_calls_are_counted_and_nothing_beside_them(endpoint, body, said):
    assert said == said_bytes(endpoint, json.dumps(body).encode())


@pytest.mark.parametrize("body", [b"no JSON", b"[]", b'{"choices": 3}'])
def test_what_cannot_be_read_is_as_long_as_it_is(body):
    assert len(body) == said_bytes(CHAT, body)


@pytest.mark.parametrize(
    ("told", "text", "used"),
    [
        (Usage(input_tokens=70), "word" * 10, (70, 10, True)),
        (Usage(input_tokens=70, output_tokens=-3), "word" * 10, (70, 10, True)),
        (Usage(input_tokens=70, output_tokens=9), "word" * 10, (70, 9, False)),
        (Usage(input_tokens=70), "", (70, 0, False)),
        (Usage(input_tokens=70, estimated=True), "word" * 10, (70, 10, True)),
    ],
    ids=["not counted", "less than nothing", "counted", "nothing said", "half told"],
)
def test_an_answer_that_has_spoken_is_never_charged_as_if_it_had_not(told, text, used):
    body = json.dumps(message(content=text)).encode()
    request = asked(messages=[{"role": "user", "content": "hello"}])

    usage = used_by(request, Reply(body=body, usage=told))

    assert used == (usage.input_tokens, usage.output_tokens, usage.estimated)


def test_what_asked_for_no_output_has_none():
    """A completion may give back its prompt alone, with how likely it was."""
    request = asked(COMPLETIONS, prompt="hello", echo=True, max_tokens=0)
    told = Usage(input_tokens=2)

    assert told is used_by(request, Reply(body=b'{"choices": [{"text": "hello"}]}', usage=told))


@pytest.mark.parametrize(
    ("body", "tier"),
    [
        ({**message(content="hello"), "service_tier": "priority"}, "priority"),
        ({**message(content="hello"), "service_tier": 3}, None),
        (message(content="hello"), None),
        ([], None),
    ],
)
def test_an_answer_without_counts_is_charged_at_the_tier_it_names(body, tier):
    reply = Reply(body=json.dumps(body).encode())

    used = used_by(asked(CHAT), reply)

    assert (tier, True) == (used.service_tier, used.estimated)
