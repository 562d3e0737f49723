"""A question with the beginning of its answer, for targets that go on from there."""

from collections.abc import Mapping

import msgspec

from shared.attempts.spoken import COMPLETIONS, RESPONSES
from shared.providers.dialects.openai_stream import UNREADABLE
from shared.providers.request import InferenceRequest

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_value = msgspec.json.decode

_THINKING = ("thinking", "reasoning_effort", "reasoning")
"""With these a model thinks before it speaks; with a beginning of its answer it cannot."""
_FORMS = ("response_format", "output_config")
_NO_PLACE = ("suffix", "echo")
"""With these a prompt's end is not where its continuation begins."""
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})
"""Items that are no message, and that a model answers."""


class _Turn(msgspec.Struct):
    role: str | None = None
    type: str | None = None


class _Form(msgspec.Struct):
    type: str | None = None


class _Words(msgspec.Struct):
    format: _Form | None = None


_decode_turn = msgspec.json.Decoder(_Turn).decode
_decode_form = msgspec.json.Decoder(_Form | None).decode
_decode_words = msgspec.json.Decoder(_Words | None).decode


def prefilled(
    request: InferenceRequest, text: str, *, bare: bool = False
) -> tuple[str, bytes] | None:
    """Return what of the text a target is given to go on from, and the request's body with it.

    None where that is no use: a form is asked for or thoughts, or the caller's own question ends
    in the assistant's words; and where the question is too odd to tell. `bare`: white space may not
    stand at the end.
    """
    said = text.rstrip() if bare else text
    if not said.strip():
        return None
    try:
        fields = _decode(request.raw)
        asked = _asked(request.endpoint, fields, said)
    except UNREADABLE:
        return None
    return None if asked is None else (said, msgspec.json.encode({**fields, **asked}))


def _asked(
    endpoint: str, fields: Mapping[str, msgspec.Raw], said: str
) -> Mapping[str, object] | None:
    """Return the fields that are others."""
    if any(_is_set(fields, name) for name in _THINKING):
        return None
    if any(_is_form(_decode_form(fields.get(name, b"null"))) for name in _FORMS):
        return None
    if endpoint == COMPLETIONS:
        return _prompt_with(fields, said)
    if endpoint == RESPONSES:
        return _input_with(fields, said)
    return _turns_with(fields, "messages", said)


def _turns_with(
    fields: Mapping[str, msgspec.Raw], name: str, said: str
) -> Mapping[str, object] | None:
    turns = _decode_list(fields[name])
    last = _decode_turn(turns[-1]) if turns else _Turn()
    if last.role == "assistant" or not (last.role or last.type in _RESULTS):
        return None
    return {name: [*turns, {"role": "assistant", "content": said}]}


def _input_with(fields: Mapping[str, msgspec.Raw], said: str) -> Mapping[str, object] | None:
    words = _decode_words(fields.get("text", b"null"))
    if words is not None and _is_form(words.format):
        return None
    asked = fields.get("input")
    if asked is None:
        return None
    if bytes(memoryview(asked)[:1]) == b"[":
        return _turns_with(fields, "input", said)
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return {"input": turns}


def _prompt_with(fields: Mapping[str, msgspec.Raw], said: str) -> Mapping[str, object] | None:
    """Return the prompt with its continuation: that is what such a model goes on from anyway."""
    prompt = _decode_value(fields["prompt"])
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    if not isinstance(prompt, str) or any(_is_set(fields, name) for name in _NO_PLACE):
        return None
    return {"prompt": prompt + said}


def _is_set(fields: Mapping[str, msgspec.Raw], name: str) -> bool:
    return bytes(fields.get(name, b"null")) not in {b"null", b"false"}


def _is_form(form: _Form | None) -> bool:
    return form is not None and form.type != "text"
