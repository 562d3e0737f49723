"""Steps that look at the history in the bytes do what they do to plain values."""

import itertools
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequest, UnsupportedParameter
from shared.gateway.parse import parse_request
from shared.providers.dialects.openai_draft import Draft, applied, drafted
from shared.providers.history import history_of
from shared.providers.registry import adapter_for

KINDS = ("openai_compatible", "vllm", "groq", "openrouter", "openai", "xai", "deepseek", "mistral")

WORDS = st.sampled_from(["", "Hi", "developer", "tool_calls", "data:", "é\n"])
IDS = st.sampled_from(["a", "b", "123456789", "c" * 41])
NAMES = st.sampled_from(["f", "a.b", "g" * 65])
URLS = st.sampled_from(["https://a.example/x", "data:image/png;base64,AAAA", "data:text/x,A", ""])
PARTS = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": WORDS}),
    st.builds(lambda url: {"type": "image_url", "image_url": {"url": url}}, URLS),
    st.builds(lambda url: {"type": "file", "file": {"file_data": url}}, URLS),
    st.just({"type": "refusal", "refusal": "no"}),
)
CALLS = st.fixed_dictionaries(
    {"id": IDS, "type": st.just("function")},
    optional={"function": st.fixed_dictionaries({"name": NAMES}), "index": st.just(0)},
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"])},
    optional={
        # A number is no content: then every step has to look for itself.
        "content": st.none() | WORDS | st.lists(PARTS, max_size=2) | st.just(5),
        "name": WORDS,
        "reasoning_content": WORDS,
        "refusal": WORDS,
        "tool_calls": st.none() | st.lists(CALLS, max_size=2),
        "tool_call_id": IDS,
    },
)


def calling(one):
    """A call with its result: alone, chance would seldom bring them together."""
    call = {"id": one, "type": "function", "function": {"name": "a.b", "arguments": "{}"}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": one, "content": "42"},
    ]


HISTORIES = st.lists(
    st.one_of(MESSAGES.map(lambda one: [one]), st.builds(calling, IDS)), min_size=1, max_size=4
).map(lambda turns: list(itertools.chain(*turns)))


def outcome(draft, steps):
    try:
        applied(draft, steps)
    except (InvalidRequest, UnsupportedParameter) as error:
        return type(error), error.message, error.param
    return json.loads(msgspec.json.encode(draft.body)), draft.names, draft.dropped


@pytest.mark.parametrize("kind", KINDS)
@given(messages=HISTORIES)
def test_bytes_and_plain_values_come_to_the_same(kind, messages):
    steps = adapter_for(kind).vendor.steps
    raw = json.dumps({"model": "m", "messages": messages}).encode()

    known = parse_request("/v1/chat/completions", raw).history
    plain = outcome(Draft(json.loads(raw), model="m", raw=raw), steps)
    assert plain == outcome(drafted(raw, model="m", params={}), steps)
    assert plain == outcome(drafted(raw, model="m", params={}, history=known), steps)


PLAIN = st.builds(
    lambda led, said: [*led, *said],
    st.lists(st.builds(lambda words: {"role": "system", "content": words}, WORDS), max_size=1),
    st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "assistant"])},
            optional={
                "content": st.none() | WORDS,
                "name": WORDS,
                "reasoning_content": WORDS,
                "refusal": WORDS,
                "cache_control": st.just({"type": "ephemeral"}),
                "tool_calls": st.none() | st.just([]),
            },
        ),
        max_size=3,
    ),
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.just(2),
        "stop": st.just(["a"] * 5),
        "tools": st.none()
        | st.lists(st.fixed_dictionaries({"function": st.builds(lambda n: {"name": n}, NAMES)})),
        "tool_choice": st.just("required"),
        "parallel_tool_calls": st.booleans(),
    },
)


@pytest.mark.parametrize("kind", KINDS)
@given(messages=PLAIN, fields=FIELDS)
def test_what_is_left_out_for_plain_text_would_change_nothing(kind, messages, fields):
    steps = adapter_for(kind).vendor.steps
    body = {"model": "m", "messages": messages, **fields}
    raw = json.dumps(body).encode()
    draft = drafted(raw, model="m", params={})

    assert draft.is_plain() == (not fields.keys() & {"tools", "tool_choice", "parallel_tool_calls"})
    assert outcome(Draft(body, model="m", raw=raw), steps) == outcome(draft, steps)


@pytest.mark.parametrize(
    ("roles", "plain"),
    [
        ([], True),
        (["system"], True),
        (["system", "user", "assistant", "user"], True),
        (["user", "system"], False),
        (["system", "system", "user"], False),
        (["developer", "user"], False),
        (["user", "tool"], False),
        (["user", "function"], False),
    ],
)
def test_plain_text_is_of_user_and_assistant_after_one_system_message(roles, plain):
    messages = [{"role": role, "content": "x"} for role in roles]

    assert plain == history_of(msgspec.Raw(json.dumps(messages).encode())).plain


@pytest.mark.parametrize(
    ("messages", "calls", "parts"),
    [
        ([{"role": "user", "content": "Hi"}], False, False),
        ([{"role": "user", "content": []}], False, True),
        ([{"role": "assistant", "tool_calls": [{"id": "a"}]}], True, False),
        ([{"role": "assistant", "tool_calls": []}], False, False),
        ([{"role": "tool", "tool_call_id": "a", "content": ""}], True, False),
    ],
)
def test_one_look_tells_what_is_there(messages, calls, parts):
    found = history_of(msgspec.Raw(json.dumps(messages).encode()))

    assert (calls, parts) == (found.calls, found.parts)
    assert {messages[0]["role"]} == found.roles


@pytest.mark.parametrize("odd", [b"5", b"[5]", b"[{}]", b'[{"role":"user","content":5}]', b"["])
def test_odd_messages_are_for_each_step_to_look_at(odd):
    assert history_of(msgspec.Raw(odd)) is None


def test_what_is_known_of_another_body_is_not_trusted():
    asked = parse_request(
        "/v1/chat/completions", b'{"model":"m","messages":[{"role":"developer","content":"x"}]}'
    )
    changed = asked.raw.replace(b"developer", b"user")

    draft = drafted(changed, model="m", params={}, history=asked.history)

    assert {"user"} == draft.history().roles


def test_a_look_is_not_trusted_after_a_change():
    draft = drafted(b'{"messages":[{"role":"developer","content":"x"}]}', model="m", params={})
    assert draft.has_role("developer")

    draft.body["messages"] = [{"role": "user", "content": "x"}]

    assert draft.history() is None
    assert ["user"] == [head.role for head in draft.heads()]
