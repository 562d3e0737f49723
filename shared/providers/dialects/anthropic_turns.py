"""A conversation as Anthropic's turns: user and assistant alternate, results come first.

What Anthropic has no place for keeps its place as text: a system message in mid-conversation is
tagged text of the user, and between calls and their results the first text of the first result.
"""

from collections.abc import Iterable, Mapping

import msgspec

from shared.chat.message import Message, Part, RefusalPart, TextPart, ToolCall
from shared.errors import InvalidRequest
from shared.providers.dialects.anthropic_names import Names, call_id
from shared.providers.dialects.anthropic_parts import Block, blocks_of, marked
from shared.providers.request import FetchedFile

SILENCE = "(empty)"
"""Stands for a turn of the user without words: Anthropic refuses blank text and missing turns."""

_INSTRUCTING = ("system", "developer")
_WHERE = "messages"


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """`system` and `messages` in Anthropic's words.

    `prefilled`: the last turn is the assistant's. `bare_calls`: the assistant's last turn calls
    tools, and its thoughts about them are not known.
    """

    system: list[Block]
    turns: list[Block]
    prefilled: bool
    bare_calls: bool


def converse(
    messages: Iterable[Message], *, names: Names, files: Mapping[str, FetchedFile]
) -> Conversation:
    """Return the conversation.

    Raises:
        InvalidRequest: a call without a result, a result without a call, a broken part.
        UnsupportedParameter: a part that Claude cannot read.
    """
    writer = _Writer(names, files)
    for message in messages:
        match message.role:
            case "system" | "developer":
                writer.system(message)
            case "user":
                writer.user(message)
            case "assistant":
                writer.assistant(message)
            case "tool":
                writer.tool(message)
    return writer.done()


class _Writer:
    def __init__(self, names: Names, files: Mapping[str, FetchedFile]) -> None:
        self._names = names
        self._files = files
        self._system: list[Block] = []
        self._turns: list[Block] = []
        self._said: list[Block] = []
        """Blocks of the assistant's turn under way."""
        self._users = False
        """Whether a turn of the user is under way: results, words."""
        self._results: list[Block] = []
        self._words: list[Block] = []
        self._open: dict[str, str] = {}
        """Calls without a result: the sent ids by the caller's."""
        self._taken: set[str] = set()
        self._aside: list[Block] = []
        """System texts that came before the results they must not follow."""

    def system(self, message: Message) -> None:
        blocks = self._blocks(_texts_only(message))
        if not self._turns and not self._said and not self._users:
            self._system += blocks
            return
        tagged = [{**block, "text": f"<system>\n{block['text']}\n</system>"} for block in blocks]
        if self._open:
            self._aside += tagged
        elif tagged:
            self._user_begins()
            self._words += tagged

    def user(self, message: Message) -> None:
        self._user_begins()
        self._words += self._blocks(message.parts)

    def tool(self, message: Message) -> None:
        self._user_begins()
        sent = self._open.pop(message.tool_call_id or "", None)
        if sent is None:
            raise InvalidRequest(
                f"A tool message answers {message.tool_call_id!r}, which is no open call of the "
                "assistant message before it.",
                param=_WHERE,
            )
        aside, self._aside = self._aside, []
        result: Block = {"type": "tool_result", "tool_use_id": sent}
        content = self._result_content(message, aside)
        if content:
            result["content"] = content
        if message.is_error:
            result["is_error"] = True
        marks = [mark for part in message.parts if (mark := getattr(part, "cache", None))]
        self._results.append(marked(result, marks[-1] if marks else None))

    def assistant(self, message: Message) -> None:
        blocks = _thoughts(message) + self._blocks(_texts_only(message))
        if not blocks and not message.tool_calls:
            return  # an answer without words is no turn
        self._user_ends()
        self._said += blocks
        self._said += [self._call(call) for call in message.tool_calls]

    def done(self) -> Conversation:
        if self._said:
            _strip_end(self._said)
        self._assistant_ends()
        self._user_ends()
        if self._open:
            raise _unanswered(self._open)
        if not self._turns:
            self._turns.append(_turn("user", [{"type": "text", "text": SILENCE}]))
        return Conversation(
            system=self._system,
            turns=self._turns,
            prefilled=self._turns[-1]["role"] == "assistant",
            bare_calls=_bare_calls(self._turns),
        )

    def _user_begins(self) -> None:
        self._assistant_ends()
        self._users = True

    def _assistant_ends(self) -> None:
        if self._said:
            if not self._turns:
                self._turns.append(_turn("user", [{"type": "text", "text": SILENCE}]))
            self._turns.append(_turn("assistant", self._said))
            self._said = []

    def _user_ends(self) -> None:
        if not self._users:
            return
        if self._open:
            raise _unanswered(self._open)
        blocks = [*self._results, *self._aside, *self._words]
        self._turns.append(_turn("user", blocks or [{"type": "text", "text": SILENCE}]))
        self._users, self._results, self._words, self._aside = False, [], [], []

    def _call(self, call: ToolCall) -> Block:
        if call.id in self._open:
            raise InvalidRequest(f"Two tool calls share the id {call.id!r}.", param=_WHERE)
        sent = call_id(call.id, self._taken)
        self._open[call.id] = sent
        block: Block = {
            "type": "tool_use",
            "id": sent,
            "name": self._names.sent(call.name),
            "input": input_of(call),
        }
        return marked(block, call.cache)

    def _result_content(self, message: Message, aside: list[Block]) -> object:
        match message.parts:
            case (TextPart(text=text),) if not aside:
                return text
            case parts:
                plain = [_unmarked(part) for part in parts]
                return aside + self._blocks(plain)

    def _blocks(self, parts: Iterable[Part]) -> list[Block]:
        return blocks_of(parts, files=self._files, where=_WHERE)


def input_of(call: ToolCall) -> dict[str, object]:
    """Return a call's input as the object it must be.

    No arguments are no fields; what is not a JSON object is the field `arguments`, free text of a
    custom tool the field `input`.
    """
    if call.kind == "custom":
        return {"input": call.arguments}
    if not call.arguments.strip():
        return {}
    try:
        found = msgspec.json.decode(call.arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {"arguments": call.arguments}
    return found if isinstance(found, dict) else {"arguments": found}


def _thoughts(message: Message) -> list[Block]:
    """Return Claude's own thoughts, which alone it takes back; others have no valid signature."""
    blocks: list[Block] = []
    for piece in message.reasoning:
        if piece.dialect != "anthropic" or piece.signature is None:
            continue
        if piece.redacted:
            blocks.append({"type": "redacted_thinking", "data": piece.signature})
        else:
            proof = {"thinking": piece.text, "signature": piece.signature}
            blocks.append({"type": "thinking", **proof})
    return blocks


def _texts_only(message: Message) -> tuple[Part, ...]:
    for part in message.parts:
        if not isinstance(part, TextPart | RefusalPart):
            raise InvalidRequest(
                f"A message of role {message.role!r} can only hold text.", param=_WHERE
            )
    return message.parts


def _unmarked(part: Part) -> Part:
    """Return the part without its cache mark, which stands on the whole result."""
    if getattr(part, "cache", None) is None:
        return part
    return msgspec.structs.replace(part, cache=None)


def _bare_calls(turns: list[Block]) -> bool:
    """Return whether the last turn of the assistant calls tools and does not begin with a thought.

    Anthropic wants a thought there, and only there, when it is to think by a budget.
    """
    for turn in reversed(turns):
        if turn["role"] == "assistant":
            types = [block["type"] for block in turn["content"]]  # type: ignore[attr-defined]
            return "tool_use" in types and "thinking" not in types[0]
    return False


def _strip_end(blocks: list[Block]) -> None:
    """Take the white space off the end of a prefilled answer: Anthropic refuses it."""
    last = blocks[-1]
    if last["type"] == "text":
        text = str(last["text"]).rstrip()
        blocks[-1] = {**last, "text": text}


def _turn(role: str, blocks: list[Block]) -> Block:
    return {"role": role, "content": blocks}


def _unanswered(calls: Mapping[str, str]) -> InvalidRequest:
    missing = ", ".join(repr(id_) for id_ in calls)
    return InvalidRequest(
        "An assistant message with tool calls must be followed by a tool message for each; "
        f"missing: {missing}.",
        param=_WHERE,
    )
