"""A conversation as Bedrock's turns: they alternate, the user begins, results come first.

What Converse has no place for is put as text: a system message in mid-conversation becomes tagged
text of the user. `SILENCE` stands where a turn or a text is demanded and there is none, for blank
text is refused.
"""

from collections.abc import Sequence

import msgspec

from shared.chat.message import (
    AudioPart,
    CacheMark,
    FilePart,
    ImagePart,
    Message,
    Part,
    Reasoning,
    RefusalPart,
    TextPart,
    ToolCall,
)
from shared.errors import InvalidRequest
from shared.providers.dialects.bedrock_media import Block, Media, redacted
from shared.providers.dialects.bedrock_models import Family
from shared.providers.dialects.bedrock_names import ToolNames, call_id

SILENCE = "."
WRAPPED = "input"
"""The one argument of a tool that takes free text."""

_INSTRUCTING = frozenset({"system", "developer"})
_decode = msgspec.json.Decoder().decode


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """`system` and `messages` in Bedrock's words.

    `prefilled`: the last turn is the assistant's. `bare_calls`: the calls now being answered stand
    in a turn without their thoughts.
    """

    system: list[Block]
    turns: list[Block]
    prefilled: bool
    bare_calls: bool


def converse(
    messages: Sequence[Message], *, family: Family, names: ToolNames, media: Media
) -> Conversation:
    """Return the conversation.

    Raises:
        InvalidRequest: a call without a result, a result without a call, a broken part.
        UnsupportedParameter: a part that the model cannot read.
    """
    leading = 0
    while leading < len(messages) and messages[leading].role in _INSTRUCTING:
        leading += 1
    writer = _Writer(family, names, media)
    system = [block for message in messages[:leading] for block in writer.texts(message)]
    for at, message in enumerate(messages[leading:], leading):
        writer.take(message, f"messages[{at}]")
    turns = writer.done()
    if system and not family.system:
        turns[0]["content"] = [*system, *_content(turns[0])]
        system = []
    return Conversation(
        system=system,
        turns=turns,
        prefilled=turns[-1]["role"] == "assistant",
        bare_calls=writer.bare_calls,
    )


def point(mark: CacheMark) -> Block:
    """Return a cache mark; it stands behind what it marks."""
    shown: Block = {"type": "default"}
    if mark.ttl != "5m":
        shown["ttl"] = mark.ttl
    return {"cachePoint": shown}


class _Writer:
    """Collects one turn at a time; a user's turn holds its results apart, to come first."""

    def __init__(self, family: Family, names: ToolNames, media: Media) -> None:
        self.bare_calls = False
        self._family = family
        self._names = names
        self._media = media
        self._turns: list[Block] = []
        self._said: list[Block] = []
        self._words: list[Block] = []
        self._results: dict[str, list[Block]] = {}
        self._open: dict[str, str] = {}
        """Calls of the last turn without a result: where they stand, by id."""
        self._sent: dict[str, str] = {}
        """The ids that stand for the callers', in the last turn that calls."""
        self._taken: set[str] = set()
        self._heard = False
        """Whether the user has had a turn, be it a blank one."""

    def take(self, message: Message, where: str) -> None:
        """Add the next message."""
        if message.role == "assistant":
            self._end_user()
            self._assistant(message, where)
            return
        if message.role in _INSTRUCTING and not message.text.strip():
            return
        self._end_assistant()
        if message.role == "tool":
            self._tool(message, where)
        elif message.role == "user":
            self._heard = True
            self._words += self._blocks(message.parts, where)
        else:
            self._words.append({"text": f"<system>\n{message.text.strip()}\n</system>"})

    def done(self) -> list[Block]:
        """Return the turns.

        Raises:
            InvalidRequest: a call has no result.
        """
        self._end_assistant()
        self._end_user()
        turns = self._turns
        if not turns or turns[0]["role"] != "user":
            turns.insert(0, _turn("user", [{"text": SILENCE}]))
        if turns[-1]["role"] == "assistant":
            _strip_end(_content(turns[-1]))
            if not self._family.prefill:
                turns.append(_turn("user", [{"text": SILENCE}]))
        return turns

    def texts(self, message: Message) -> list[Block]:
        """Return the texts of a system message, with their cache marks."""
        blocks: list[Block] = []
        for part in message.parts:
            if isinstance(part, TextPart) and part.text.strip():
                blocks.append({"text": part.text})
                blocks += self._point(part.cache)
        return blocks

    def _assistant(self, message: Message, where: str) -> None:
        thoughts = [self._thought(piece) for piece in message.reasoning if self._proven(piece)]
        self._said += thoughts
        self._said += self._blocks(message.parts, where)
        for at, call in enumerate(message.tool_calls):
            self._said.append(self._call(call, f"{where}.tool_calls[{at}]"))
            self._said += self._point(call.cache)
            self._open[call.id] = f"{where}.tool_calls[{at}]"
        self.bare_calls = bool(message.tool_calls) and not thoughts

    def _tool(self, message: Message, where: str) -> None:
        callers = message.tool_call_id or ""
        if self._open.pop(callers, None) is None:
            raise InvalidRequest(
                f"The result {callers!r} answers no tool call of the turn before it.",
                param=f"{where}.tool_call_id",
            )
        images = [part for part in message.parts if isinstance(part, ImagePart)]
        if self._family.result_images:
            images = []
        kept = [part for part in message.parts if part not in images]
        result: Block = {"toolUseId": self._sent[callers], "content": self._result(kept, where)}
        if self._family.result_status:
            result["status"] = "error" if message.is_error else "success"
        marks = [mark for part in kept if (mark := _mark(part)) is not None]
        pointed = self._point(marks[-1]) if marks else []
        self._results[callers] = [{"toolResult": result}, *pointed]
        # A model that cannot see them in a result sees them right behind it.
        self._words += [self._media.image(part, where) for part in images]

    def _result(self, parts: Sequence[Part], where: str) -> list[Block]:
        texts = [part for part in parts if isinstance(part, TextPart)]
        if self._family.json_results and len(texts) == len(parts) == 1:
            try:
                found = _decode(texts[0].text)
            except (msgspec.DecodeError, RecursionError):
                found = None
            if isinstance(found, dict):
                return [{"json": found}]
        unmarked = [block for block in self._blocks(parts, where) if "cachePoint" not in block]
        return unmarked or [{"text": SILENCE}]

    def _blocks(self, parts: Sequence[Part], where: str) -> list[Block]:
        blocks: list[Block] = []
        for part in parts:
            match part:
                case TextPart() | RefusalPart():
                    if not part.text.strip():
                        continue
                    blocks.append({"text": part.text})
                case ImagePart():
                    blocks.append(self._media.image(part, where))
                case FilePart():
                    blocks.append(self._media.document(part, where))
                case AudioPart():
                    blocks.append(self._media.audio(part, where))
            if "document" not in blocks[-1]:  # a mark right behind a document is refused
                blocks += self._point(_mark(part))
        return blocks

    def _call(self, call: ToolCall, where: str) -> Block:
        if call.id in self._open:
            raise InvalidRequest(f"Two tool calls share the id {call.id!r}.", param=where)
        return {
            "toolUse": {
                "toolUseId": self._new_id(call.id),
                "name": self._names[call.name],
                "input": _input(call),
            }
        }

    def _new_id(self, callers: str) -> str:
        """Return the id of a call; none may come twice, though some number anew in each turn."""
        sent, number = call_id(callers), 2
        while sent in self._taken:
            sent, number = call_id(f"{callers}#{number}"), number + 1
        self._taken.add(sent)
        self._sent[callers] = sent
        return sent

    def _proven(self, piece: Reasoning) -> bool:
        """Whether a thought may go back: only with the proof of this very family."""
        return bool(piece.signature) and piece.dialect == self._family.signs

    def _thought(self, piece: Reasoning) -> Block:
        signature = piece.signature or ""
        if piece.redacted:
            return redacted(signature)
        text = {"text": piece.text, "signature": signature}
        return {"reasoningContent": {"reasoningText": text}}

    def _point(self, mark: CacheMark | None) -> list[Block]:
        return [point(mark)] if mark is not None and self._family.caches else []

    def _end_assistant(self) -> None:
        if self._said:
            self._turns.append(_turn("assistant", self._said))
            self._said = []

    def _end_user(self) -> None:
        """End the user's turn, results first and in the order of their calls.

        Raises:
            InvalidRequest: one of the calls before it has none.
        """
        if self._said:
            return
        if self._open:
            callers, where = next(iter(self._open.items()))
            raise InvalidRequest(f"No tool message answers the call {callers!r}.", param=where)
        results, words, heard = self._in_order(), self._words, self._heard
        self._words, self._heard = [], False
        if any("document" in block for block in words) and not any("text" in one for one in words):
            words.append({"text": SILENCE})
        if self._family.lone_results:
            self._user(results)
            self._user(words)
        else:
            self._user([*results, *words])
        if heard and self._turns[-1:] and self._turns[-1]["role"] == "assistant":
            self._user([{"text": SILENCE}])

    def _user(self, content: list[Block]) -> None:
        """Add a turn of the user, or to it; what must stand alone gets a silent turn behind it."""
        if not content:
            return
        if not self._turns or self._turns[-1]["role"] == "assistant":
            self._turns.append(_turn("user", content))
        elif self._family.lone_results and "toolResult" in _content(self._turns[-1])[0]:
            self._turns += [_turn("assistant", [{"text": SILENCE}]), _turn("user", content)]
        else:
            _content(self._turns[-1]).extend(content)

    def _in_order(self) -> list[Block]:
        results, self._results = self._results, {}
        if not results:
            return []
        called = [
            block["toolUse"]["toolUseId"]  # type: ignore[index]
            for block in _content(self._turns[-1])
            if "toolUse" in block
        ]
        ordered = sorted(results.items(), key=lambda one: called.index(self._sent[one[0]]))
        return [block for _, blocks in ordered for block in blocks]


def _input(call: ToolCall) -> dict[str, object]:
    """Return a call's arguments as the object that Bedrock demands.

    What is none (cut off, a list, free text) goes as its only argument, so that nothing is lost.
    """
    if call.kind == "custom":
        return {WRAPPED: call.arguments}
    if not call.arguments.strip():
        return {}
    try:
        found = _decode(call.arguments)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return {WRAPPED: call.arguments}
    return found if isinstance(found, dict) else {WRAPPED: found}


def _mark(part: Part) -> CacheMark | None:
    return part.cache if isinstance(part, TextPart | ImagePart | FilePart) else None


def _turn(role: str, content: list[Block]) -> Block:
    return {"role": role, "content": content}


def _content(turn: Block) -> list[Block]:
    return turn["content"]  # type: ignore[return-value]


def _strip_end(content: list[Block]) -> None:
    """Take blanks off the end of a last answer, which is refused with them."""
    text = content[-1].get("text")
    if isinstance(text, str):
        content[-1] = {"text": text.rstrip()}
