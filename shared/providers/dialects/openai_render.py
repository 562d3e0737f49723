"""Canonical answers as OpenAI's bytes, by the demands of its SDK's stream helper.

The role comes once per choice; a tool call's id, type and name come once, with its first piece;
tool indices begin at 0; choice 0 opens before choice 1; one finish reason per choice, after all
else; usage stands in the last chunk. Reasoning is `reasoning_content`.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from shared.chat.message import ImagePart, ToolCall
from shared.chat.response import (
    ChatChoice,
    ChatDelta,
    ChatResponse,
    FinishReason,
    ReasoningDelta,
    ToolDelta,
)
from shared.chat.usage import Usage
from shared.providers.dialects.openai_reasoning import render_detail, render_details


def render_response(response: ChatResponse, *, functions: bool = False) -> bytes:
    """Return a whole chat completion; `functions` asks for the first call in OpenAI's old words."""
    body: dict[str, object] = {
        "id": response.id,
        "object": "chat.completion",
        "created": response.created_s,
        "model": response.model,
        "choices": [_choice(choice, functions=functions) for choice in response.choices],
    }
    if response.usage is not None:
        body["usage"] = render_usage(response.usage)
        if response.usage.service_tier is not None:
            body["service_tier"] = response.usage.service_tier
    if response.extra:
        body["sluiceway"] = {"extra": response.extra}
    return msgspec.json.encode(body)


def render_usage(usage: Usage) -> dict[str, object]:
    """Return OpenAI's usage object with both its details."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "audio_tokens": usage.input_audio_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.output_audio_tokens,
        },
    }


class OpenAIRenderer:
    """Turns the deltas of one stream into chunks; one per delta that says something.

    `own_id` and `own_created_s` stand where the provider has told none by the first chunk.
    `functions` is that of `render_response`.
    """

    def __init__(
        self,
        *,
        include_usage: bool,
        own_id: str = "",
        own_created_s: int = 0,
        functions: bool = False,
    ) -> None:
        self._include_usage = include_usage
        self._functions = functions
        self._own_id = own_id
        self._own_created_s = own_created_s
        self._id = ""
        self._model = ""
        self._created_s = 0
        self._opened: set[int] = set()
        self._ended: set[int] = set()
        self._calls: set[tuple[int, int]] = set()
        self._thoughts: set[tuple[int, int]] = set()
        self._extra: dict[str, object] = {}

    def render(self, deltas: Iterable[ChatDelta]) -> bytes:
        """Return the chunks of these deltas; usage alone makes none."""
        return b"".join([self._chunks(delta) for delta in deltas])

    def closing(self, usage: Usage | None, cost_usd: str | None) -> bytes:
        """Return the usage chunk, if asked and counts or cost are known, and the end mark."""
        done = b"data: [DONE]\n\n"
        if not self._include_usage or (usage is None and cost_usd is None):
            return done
        counts = None if usage is None else render_usage(usage)
        body = {**self._head(), "choices": [], "usage": counts}
        # A number with all its digits: the text is a plain decimal.
        cost = msgspec.Raw((cost_usd or "null").encode())
        body["sluiceway"] = {"cost_usd": cost, **self._extras()}
        return b"data: " + msgspec.json.encode(body) + b"\n\n" + done

    def _chunks(self, delta: ChatDelta) -> bytes:
        self._id = self._id or delta.id or ""
        self._model = self._model or delta.model or ""
        self._created_s = self._created_s or delta.created_s or 0
        self._extra.update(delta.extra or {})
        content = self._content(delta)
        out = b""
        says = bool(content or delta.logprobs)
        if says or (delta.finish is not None and delta.choice not in self._opened):
            out = self._open(delta)
        if says:
            out += self._chunk(delta.choice, content, logprobs=delta.logprobs)
        if delta.finish is not None and delta.choice not in self._ended:
            self._ended.add(delta.choice)
            reason = _reason(delta.finish, functions=self._functions)
            out += self._chunk(delta.choice, {}, reason, more=self._extras())
        return out

    def _extras(self) -> dict[str, object]:
        """Return what the provider told besides and no chunk has shown."""
        extra, self._extra = self._extra, {}
        return {"extra": extra} if extra else {}

    def _open(self, delta: ChatDelta) -> bytes:
        """Return the opening chunks that are due: those of lower choices first."""
        due = [number for number in range(delta.choice + 1) if number not in self._opened]
        self._opened.update(due)
        content = "" if delta.tool is None else None
        opening: dict[str, object] = {"role": "assistant", "content": content}
        return b"".join([self._chunk(number, opening) for number in due])

    def _content(self, delta: ChatDelta) -> dict[str, object]:
        content: dict[str, object] = {}
        if delta.text:
            content["content"] = delta.text
        if delta.reasoning is not None:
            content |= self._reasoning(delta.choice, delta.reasoning)
        if delta.refusal:
            content["refusal"] = delta.refusal
        if delta.tool is not None:
            call = self._call(delta.choice, delta.tool)
            if not self._functions:
                content["tool_calls"] = [call]
            elif delta.tool.index == 0:
                content["function_call"] = call["function"]
        if delta.annotations:
            content["annotations"] = delta.annotations
        if delta.images:
            content["images"] = [_image(image) for image in delta.images]
        return content

    def _reasoning(self, choice: int, reasoning: ReasoningDelta) -> dict[str, object]:
        content: dict[str, object] = {}
        if reasoning.text:
            content["reasoning_content"] = reasoning.text
        key = (choice, reasoning.index)
        first = key not in self._thoughts
        if not first or reasoning.dialect is not None:
            self._thoughts.add(key)
            content["reasoning_details"] = [render_detail(reasoning, first=first)]
        return content

    def _call(self, choice: int, tool: ToolDelta) -> dict[str, object]:
        word = "arguments" if tool.kind == "function" else "input"
        called: dict[str, object] = {word: tool.arguments}
        shown: dict[str, object] = {"index": tool.index}
        key = (choice, tool.index)
        if key not in self._calls:
            self._calls.add(key)
            called = {"name": tool.name or "", **called}
            shown |= {"id": tool.id, "type": tool.kind}
        shown[tool.kind] = called
        if tool.signature is not None:
            shown["extra_content"] = signed(tool.signature)
        return shown

    def _chunk(
        self,
        choice: int,
        delta: dict[str, object],
        finish: str | None = None,
        *,
        logprobs: Sequence[Mapping[str, object]] = (),
        more: Mapping[str, object] = {},
    ) -> bytes:
        body = self._head()
        body["choices"] = [
            {
                "index": choice,
                "delta": delta,
                "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
                "finish_reason": finish,
            }
        ]
        if self._include_usage:
            body["usage"] = None
        if more:
            body["sluiceway"] = more
        return b"data: " + msgspec.json.encode(body) + b"\n\n"

    def _head(self) -> dict[str, object]:
        self._id = self._id or self._own_id
        self._created_s = self._created_s or self._own_created_s
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created_s,
            "model": self._model,
        }


def _reason(finish: FinishReason | None, *, functions: bool) -> str | None:
    if functions and finish is FinishReason.TOOL_CALLS:
        return "function_call"
    return None if finish is None else finish.value


def _choice(choice: ChatChoice, *, functions: bool) -> dict[str, object]:
    message: dict[str, object] = {
        "role": "assistant",
        "content": choice.text,
        "refusal": choice.refusal,
    }
    if not all(piece.redacted for piece in choice.reasoning):
        message["reasoning_content"] = "".join(piece.text for piece in choice.reasoning)
    if details := render_details(choice.reasoning):
        message["reasoning_details"] = details
    if choice.annotations:
        message["annotations"] = choice.annotations
    if choice.images:
        message["images"] = [_image(image) for image in choice.images]
    if choice.tool_calls:
        calls = [render_call(call) for call in choice.tool_calls]
        message |= {"function_call": calls[0]["function"]} if functions else {"tool_calls": calls}
    return {
        "index": choice.index,
        "message": message,
        "logprobs": {"content": choice.logprobs, "refusal": None} if choice.logprobs else None,
        "finish_reason": _reason(choice.finish, functions=functions),
    }


def render_call(call: ToolCall) -> dict[str, object]:
    """Return a whole tool call as messages carry it."""
    if call.kind == "custom":
        custom = {"name": call.name, "input": call.arguments}
        return {"id": call.id, "type": "custom", "custom": custom}
    function = {"name": call.name, "arguments": call.arguments}
    shown: dict[str, object] = {"id": call.id, "type": "function", "function": function}
    if call.signature is not None:
        shown["extra_content"] = signed(call.signature)
    return shown


def _image(image: ImagePart) -> dict[str, object]:
    """Return a made image as OpenRouter shows them."""
    return {"type": "image_url", "image_url": {"url": image.url}}


def signed(signature: str) -> dict[str, object]:
    """Return a call's `extra_content`, as Google's own OpenAI surface carries its proof."""
    return {"google": {"thought_signature": signature}}
