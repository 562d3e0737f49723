"""A question in OpenAI's words on its way to a vendor's: the body, and steps that change it.

A step is a function that looks for one thing and changes it. A vendor is a row of steps. Relayed
bodies keep their values as raw bytes until a step reads them, so what nobody asks for costs
nothing and goes out as it came; translated bodies are plain values already.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import msgspec

from shared.providers.history import History, MessageHead, history_of

Json = dict[str, Any]

HARMLESS: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "store": (False,),
    "temperature": (1,),
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "parallel_tool_calls": (True,),
    "service_tier": ("auto", "default"),
    "reasoning_effort": ("none",),
    "modalities": (["text"],),
    "stop": ([], ""),
    "metadata": ({},),
}
"""Values that ask for what happens anyway: left out without a word."""


_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_heads = msgspec.json.Decoder(list[MessageHead]).decode
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_OF_TOOLS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})


class Draft(msgspec.Struct, eq=False):
    """A body under change.

    `dropped` are the caller's fields that this vendor cannot be asked. `names` are the tools' names
    that had to be changed, as sent, by the caller's. `own` are the operator's fields: no step takes
    them out. `able` are the target's declared capabilities by name. `raw` are the caller's bytes.
    """

    body: dict[str, object]
    model: str
    raw: bytes | None = None
    own: Mapping[str, object] = {}
    able: Mapping[str, bool] = {}
    dropped: list[str] = []
    names: dict[str, str] = {}
    _history_of: object = None
    _history: History | None = None

    @property
    def translated(self) -> bool:
        """Whether the caller spoke another dialect."""
        return self.raw is None

    def can(self, name: str, *, default: bool) -> bool:
        """Return what the operator says the target can do, else the vendor's default."""
        return self.able.get(name, default)

    def mentions(self, word: bytes) -> bool:
        """Return whether the caller's bytes hold the word: a cheap look before a long one."""
        return self.raw is None or word in self.raw

    def history(self) -> History | None:
        """Return what one look at the messages tells; None where a step has to look for itself.

        That is where some are of an odd form, and where they are plain values.
        """
        value = self.body.get("messages")
        if value is not self._history_of:
            self._history_of = value
            self._history = history_of(value) if isinstance(value, msgspec.Raw) else None
        return self._history

    def learn(self, history: History) -> None:
        """Take what is known of the messages already."""
        self._history_of, self._history = self.body.get("messages"), history

    def is_plain(self) -> bool:
        """Return whether it is for certain a chat in mere text: no parts, no tools, no odd roles.

        No step makes it anything else.
        """
        history = self.history()
        return history is not None and history.plain and _OF_TOOLS.isdisjoint(self.body)

    def calls_tools(self) -> bool:
        """Return whether there may be calls or their results among the messages."""
        history = self.history()
        return self.mentions(b'"tool_call') if history is None else history.calls

    def has_role(self, role: str) -> bool:
        """Return whether there may be a message of this role."""
        history = self.history()
        return self.mentions(f'"{role}"'.encode()) if history is None else role in history.roles

    def has_parts(self) -> bool:
        """Return whether some content may be a list of parts."""
        history = self.history()
        return history is None or history.parts

    def has(self, name: str) -> bool:
        """Return whether the field is there and not null."""
        value = self.body.get(name)
        if isinstance(value, msgspec.Raw):
            return bytes(memoryview(value)[:1]) != b"n"
        return value is not None

    def read(self, name: str) -> Any:  # noqa: ANN401 (JSON)
        """Return a field as a plain value, None where it is absent; what is read may be changed."""
        value = self.body.get(name)
        if isinstance(value, msgspec.Raw):
            value = self.body[name] = msgspec.json.decode(value)
        return value

    def messages(self) -> list[Json]:
        """Return the messages, to be changed in place."""
        messages = self.read("messages")
        if not isinstance(messages, list):
            return []
        return [message for message in messages if isinstance(message, dict)]

    def heads(self) -> Sequence[MessageHead]:
        """Return roles and names of the messages without reading their contents."""
        history = self.history()
        if history is not None:
            return history.turns
        value = self.body.get("messages")
        if isinstance(value, msgspec.Raw):
            return _decode_heads(value)
        return [
            MessageHead(
                role=str(message.get("role")),
                name=message.get("name"),
                tool_call_id=message.get("tool_call_id"),
            )
            for message in self.messages()
        ]

    def drop(self, name: str) -> None:
        """Take a field out; it counts as dropped unless it asked for what happens anyway."""
        if name not in self.body or name in self.own or self.can(name, default=False):
            return
        if self.has(name) and self.read(name) not in HARMLESS.get(name, ()):
            self.note(name)
        del self.body[name]

    def rule_out(self) -> None:
        """Take out what the operator says the target cannot do."""
        for name, able in self.able.items():
            if not able:
                self.drop(name)

    def note(self, name: str) -> None:
        """Count a field as dropped, or as not wholly expressible."""
        if name not in self.dropped:
            self.dropped.append(name)

    def rename(self, name: str, new: str) -> None:
        """Give a field its other name; one that stands there already under the new name wins."""
        if name in self.body:
            value = self.body.pop(name)
            self.body.setdefault(new, value)


def calls_of(message: Json) -> list[Json]:
    """Return the tool calls of a message, to be changed in place."""
    calls = message.get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


Step = Callable[[Draft], None]
"""One change to a draft. It raises UnsupportedParameter for what cannot be left out."""

_idle_in_plain_text: set[Step] = set()


def idle_in_plain_text(step: Step) -> Step:
    """Mark a step that has nothing to do where a draft `is_plain`: most are, so it is not taken.

    No step before it may make work for it: bring in tools, parts, or a late word of the system's.
    """
    _idle_in_plain_text.add(step)
    return step


@lru_cache(maxsize=256)
def _for_plain_text(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(step for step in steps if step not in _idle_in_plain_text)


def drafted(
    raw: bytes,
    *,
    model: str,
    params: Mapping[str, object],
    able: Mapping[str, bool] = _NOTHING,
    known_as: str | None = None,
    history: History | None = None,
) -> Draft:
    """Return the caller's body with the upstream model's name, all else byte for byte.

    `params` are the operator's: they fill in what the caller left out. `known_as` is what the model
    is, where its name does not tell. `history` counts only where it is that of this very body.
    """
    fields: dict[str, object] = _decode_fields(raw)  # type: ignore[assignment]  # Raws are objects
    own: Mapping[str, object] = _NOTHING
    if params:
        own = {name: value for name, value in params.items() if name not in fields}
        fields.update(own)
    fields["model"] = model
    draft = Draft(fields, known_as or model, raw, own, able)
    if history is not None and history.raw is raw:
        draft.learn(history)
    return draft


def applied(draft: Draft, steps: tuple[Step, ...]) -> Draft:
    """Return the draft after all its vendor's steps, without what the operator has ruled out."""
    for step in _for_plain_text(steps) if draft.is_plain() else steps:
        step(draft)
    draft.rule_out()
    return draft


def drops(*names: str) -> Step:
    """Return a step that takes out fields which the vendor refuses or ignores."""
    refused = frozenset(names)

    def step(draft: Draft) -> None:
        if refused.isdisjoint(draft.body):
            return
        for name in names:
            draft.drop(name)

    return step


def renames(name: str, new: str) -> Step:
    """Return a step that gives a field the vendor's name."""

    def step(draft: Draft) -> None:
        draft.rename(name, new)

    return step


def max_tokens_only(draft: Draft) -> None:
    """The vendor knows only the older name of the bound on output; the newer one's value wins."""
    if draft.has("max_completion_tokens"):
        draft.body["max_tokens"] = draft.body.pop("max_completion_tokens")
