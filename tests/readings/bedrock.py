"""Bedrock's Converse: answers and questions, read from the wire."""

import json
from collections.abc import Mapping

import msgspec

from shared.chat.message import (
    CacheMark,
    FilePart,
    ImagePart,
    Message,
    Part,
    Reasoning,
    TextPart,
    ToolCall,
)
from shared.chat.request import ChatRequest, ResponseFormat, Sampling, Tool, ToolChoice
from tests.readings.said import FILTER, LENGTH, STOP, TOOLS, Said, frames, joined, total

FINISHES = {
    "end_turn": STOP,
    "stop_sequence": STOP,
    "tool_use": TOOLS,
    "max_tokens": LENGTH,
    "guardrail_intervened": FILTER,
    "content_filtered": FILTER,
}


def whole(body: Mapping) -> Said:
    """Read an answer."""
    if "output" not in body:
        return Said(error=body.get("message"))
    return _said(body["output"]["message"]["content"], body["stopReason"], body["usage"])


def streamed(raw: bytes) -> Said:
    """Read a stream of frames; blocks of text may come without a start."""
    blocks: dict[int, dict] = {}
    finish, usage = None, {}
    for headers, event in frames(raw):
        assert isinstance(event, dict)
        if headers[":message-type"] != "event":
            return Said(error=event.get("message"))
        index = event.get("contentBlockIndex", 0)
        match headers[":event-type"]:
            case "contentBlockStart":
                blocks[index] = {name: {**v, "input": ""} for name, v in event["start"].items()}
            case "contentBlockDelta":
                _add(event["delta"], blocks.setdefault(index, {}))
            case "messageStop":
                finish = event["stopReason"]
            case "metadata":
                usage = event["usage"]
    content = [blocks[index] for index in sorted(blocks)]
    for block in content:
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
    return _said(content, finish, usage)


def _add(delta: Mapping, block: dict) -> None:
    if "text" in delta:
        block["text"] = block.get("text", "") + delta["text"]
    if "toolUse" in delta:
        block["toolUse"]["input"] += delta["toolUse"]["input"]
    if "reasoningContent" in delta:
        thought = block.setdefault("reasoningContent", {"reasoningText": {"text": ""}})
        piece = delta["reasoningContent"]
        thought["reasoningText"]["text"] += piece.get("text", "")
        if "signature" in piece:
            thought["reasoningText"]["signature"] = piece["signature"]
        if "redactedContent" in piece:
            thought["redactedContent"] = piece["redactedContent"]


def _said(content: list[Mapping], finish: str | None, usage: Mapping) -> Said:
    calls = [block["toolUse"] for block in content if "toolUse" in block]
    thoughts = [block["reasoningContent"] for block in content if "reasoningContent" in block]
    texts = [thought.get("reasoningText") or {} for thought in thoughts]
    cached = usage.get("cacheReadInputTokens")
    ended = FINISHES.get(finish or "", finish)
    return Said(
        text=joined(block.get("text") for block in content),
        thoughts=joined(text.get("text") for text in texts),
        calls=tuple((call["name"], call["input"]) for call in calls),
        call_ids=tuple(call["toolUseId"] for call in calls),
        proofs=tuple(
            proof
            for thought, text in zip(thoughts, texts, strict=True)
            for proof in (text.get("signature"), thought.get("redactedContent"))
            if proof
        ),
        finish=TOOLS if calls and ended == STOP else ended,
        input_tokens=total(usage.get("inputTokens"), cached, usage.get("cacheWriteInputTokens")),
        output_tokens=usage.get("outputTokens"),
        cached_tokens=cached,
    )


def question(body: Mapping, model: str, *, stream: bool) -> ChatRequest:
    """Read a question; what has no word in the canonical language stands in `extra`."""
    config = dict(body.get("inferenceConfig") or {})
    tools = body.get("toolConfig") or {}
    more = dict(body.get("additionalModelRequestFields") or {})
    messages = [Message(role="system", parts=(part,)) for part in _parts(body.get("system") or ())]
    for message in body["messages"]:
        messages += _messages(message)
    return ChatRequest(
        model=model,
        messages=tuple(messages),
        tools=_tools(tools.get("tools") or ()),
        tool_choice=_choice(tools.get("toolChoice") or _claudes(more.pop("tool_choice", None))),
        response_format=_format(body.get("outputConfig")),
        sampling=Sampling(
            temperature=config.pop("temperature", None),
            top_p=config.pop("topP", None),
            max_output_tokens=config.pop("maxTokens", None),
            stop=tuple(config.pop("stopSequences", ())),
        ),
        stream=stream,
        extra={**config, **more},
    )


def _messages(message: Mapping) -> list[Message]:
    content = message["content"]
    answers = [
        Message(
            role="tool",
            parts=_result(block["toolResult"]),
            tool_call_id=block["toolResult"]["toolUseId"],
            is_error=block["toolResult"].get("status") == "error",
        )
        for block in content
        if "toolResult" in block
    ]
    calls = tuple(
        ToolCall(id=call["toolUseId"], name=call["name"], arguments=json.dumps(call["input"]))
        for block in content
        if (call := block.get("toolUse"))
    )
    thoughts = tuple(
        Reasoning(text=text["text"], signature=text.get("signature"))
        for block in content
        if (text := (block.get("reasoningContent") or {}).get("reasoningText"))
    )
    parts = _parts(content)
    own = Message(role=message["role"], parts=parts, tool_calls=calls, reasoning=thoughts)
    return [*answers, own] if parts or calls else answers


def _result(result: Mapping) -> tuple[Part, ...]:
    blocks = [
        {"text": json.dumps(block["json"])} if "json" in block else block
        for block in result["content"]
    ]
    return _parts(blocks)


def _parts(content: object) -> tuple[Part, ...]:
    parts: list[Part] = []
    for block in content:  # type: ignore[attr-defined]
        if "text" in block:
            parts.append(TextPart(text=block["text"]))
        elif "image" in block:
            image = block["image"]
            url = f"data:image/{image['format']};base64,{image['source']['bytes']}"
            parts.append(ImagePart(url=url))
        elif "document" in block:
            document = block["document"]
            url = f"data:{document['format']};base64,{document['source']['bytes']}"
            parts.append(FilePart(filename=document["name"], data_url=url))
        elif "cachePoint" in block and parts:
            mark = CacheMark(ttl=block["cachePoint"].get("ttl", "5m"))
            parts[-1] = msgspec.structs.replace(parts[-1], cache=mark)
    return tuple(parts)


def _tools(blocks: object) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for block in blocks:  # type: ignore[attr-defined]
        if "cachePoint" in block:
            tools[-1] = msgspec.structs.replace(tools[-1], cache=CacheMark())
            continue
        declared = block["toolSpec"]
        tools.append(
            Tool(
                name=declared["name"],
                description=declared.get("description"),
                parameters=declared["inputSchema"]["json"],
                strict=declared.get("strict"),
            )
        )
    return tuple(tools)


def _choice(choice: Mapping | None) -> ToolChoice | None:
    match choice:
        case {"any": _}:
            return ToolChoice(mode="required")
        case {"tool": {"name": name}}:
            return ToolChoice(mode="named", name=name)
        case {"auto": _}:
            return ToolChoice(mode="auto")
        case _:
            return None


def _claudes(choice: Mapping | None) -> Mapping | None:
    """Return a choice in Claude's own words, which knows more, in Converse's."""
    match choice:
        case {"type": "tool", "name": name}:
            return {"tool": {"name": name}}
        case {"type": mode}:
            return {mode: {}}
        case _:
            return None


def _format(config: Mapping | None) -> ResponseFormat | None:
    if not config:
        return None
    wanted = config["textFormat"]["structure"]["jsonSchema"]
    schema = json.loads(wanted["schema"])
    return ResponseFormat(kind="json_schema", name=wanted.get("name"), schema=schema)
