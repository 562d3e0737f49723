"""Gemini's generateContent: answers and questions, read from the wire."""

import json
from collections import defaultdict
from collections.abc import Mapping

from shared.chat.message import ImagePart, Message, Part, TextPart, ToolCall
from shared.chat.request import (
    ChatRequest,
    ResponseFormat,
    Sampling,
    Thinking,
    Tool,
    ToolChoice,
)
from tests.readings.said import FILTER, LENGTH, STOP, TOOLS, Said, joined, sse, total

FINISHES = {"STOP": STOP, "MAX_TOKENS": LENGTH, "SAFETY": FILTER, "PROHIBITED_CONTENT": FILTER}
MODES = {"AUTO": "auto", "NONE": "none", "ANY": "required"}


def whole(body: Mapping) -> Said:
    """Read an answer."""
    return _said([body])


def streamed(raw: bytes) -> Said:
    """Read a stream of answers."""
    return _said([event for _, event in sse(raw) if isinstance(event, dict)])


def _said(answers: list[Mapping]) -> Said:
    parts, finish, usage = [], None, {}
    for answer in answers:
        if answer.get("error"):
            return Said(error=answer["error"]["message"])
        for candidate in answer.get("candidates") or ():
            parts += (candidate.get("content") or {}).get("parts") or ()
            finish = candidate.get("finishReason") or finish
        usage = answer.get("usageMetadata") or usage
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    ended = FINISHES.get(finish or "", finish)
    return Said(
        text=joined(part.get("text") for part in parts if not part.get("thought")),
        thoughts=joined(part.get("text") for part in parts if part.get("thought")),
        calls=tuple((call["name"], call.get("args") or {}) for call in calls),
        call_ids=tuple(call.get("id", "") for call in calls),
        proofs=tuple(part["thoughtSignature"] for part in parts if "thoughtSignature" in part),
        finish=TOOLS if calls and ended == STOP else ended,
        input_tokens=usage.get("promptTokenCount"),
        output_tokens=total(usage.get("candidatesTokenCount"), usage.get("thoughtsTokenCount")),
        cached_tokens=usage.get("cachedContentTokenCount"),
    )


def question(body: Mapping, model: str, *, stream: bool) -> ChatRequest:
    """Read a question; what has no word in the canonical language stands in `extra`."""
    reader = _Reader()
    messages = [
        Message(role="system", parts=(TextPart(text=part["text"]),))
        for part in (body.get("systemInstruction") or {}).get("parts") or ()
    ]
    for content in body["contents"]:
        messages += reader.messages(content)
    config = dict(body.get("generationConfig") or {})
    if config.get("responseModalities") == ["TEXT"]:
        del config["responseModalities"]  # what it is without
    return ChatRequest(
        model=model,
        messages=tuple(messages),
        tools=tuple(
            _tool(declared)
            for group in body.get("tools") or ()
            for declared in group["functionDeclarations"]
        ),
        tool_choice=_choice(body.get("toolConfig") or {}),
        response_format=_format(config),
        thinking=_thinking(config.pop("thinkingConfig", None)),
        sampling=Sampling(
            temperature=config.pop("temperature", None),
            top_p=config.pop("topP", None),
            top_k=config.pop("topK", None),
            max_output_tokens=config.pop("maxOutputTokens", None),
            stop=tuple(config.pop("stopSequences", ())),
            seed=config.pop("seed", None),
            n=config.pop("candidateCount", None),
            presence_penalty=config.pop("presencePenalty", None),
            frequency_penalty=config.pop("frequencyPenalty", None),
        ),
        stream=stream,
        extra=config,
    )


class _Reader:
    """Reads contents in order: a response without an id answers the oldest open call by name."""

    def __init__(self) -> None:
        self._count = 0
        self._open: dict[str, list[str]] = defaultdict(list)

    def messages(self, content: Mapping) -> list[Message]:
        said: list[Part] = []
        calls: list[ToolCall] = []
        answers: list[Message] = []
        for part in content["parts"]:
            if "functionCall" in part:
                calls.append(self._call(part))
            elif "functionResponse" in part:
                answers.append(self._answer(part["functionResponse"]))
            elif "text" in part:
                said.append(TextPart(text=part["text"]))
            elif "inlineData" in part:
                data = part["inlineData"]
                said.append(ImagePart(url=f"data:{data['mimeType']};base64,{data['data']}"))
            else:
                said.append(ImagePart(url=part["fileData"]["fileUri"]))
        role = "assistant" if content.get("role") == "model" else "user"
        own = Message(role=role, parts=tuple(said), tool_calls=tuple(calls))
        return [*answers, own] if said or calls else answers

    def _call(self, part: Mapping) -> ToolCall:
        self._count += 1
        call, call_id = part["functionCall"], f"call_{self._count}"
        self._open[call["name"]].append(call_id)
        return ToolCall(
            id=call_id,
            name=call["name"],
            arguments=json.dumps(call.get("args") or {}),
            signature=part.get("thoughtSignature"),
        )

    def _answer(self, response: Mapping) -> Message:
        call_id = self._open[response["name"]].pop(0)
        text = json.dumps(response["response"])
        return Message(role="tool", parts=(TextPart(text=text),), tool_call_id=call_id)


def _tool(declared: Mapping) -> Tool:
    names = ("parametersJsonSchema", "parameters_json_schema", "parameters")
    return Tool(
        name=declared["name"],
        description=declared.get("description"),
        parameters=next((declared[name] for name in names if declared.get(name)), None),
    )


def _choice(config: Mapping) -> ToolChoice | None:
    calling = config.get("functionCallingConfig")
    if not calling:
        return None
    allowed = tuple(calling.get("allowedFunctionNames") or ())
    mode = MODES[calling["mode"]]
    if len(allowed) == 1 and mode == "required":
        return ToolChoice(mode="named", name=allowed[0])
    return ToolChoice(mode=mode, allowed=allowed)


def _format(config: dict) -> ResponseFormat | None:
    if config.pop("responseMimeType", None) != "application/json":
        return None
    schema = config.pop("responseJsonSchema", None) or config.pop("responseSchema", None)
    return ResponseFormat(kind="json_schema" if schema else "json_object", schema=schema)


def _thinking(config: Mapping | None) -> Thinking | None:
    if config is None:
        return None
    level = config.get("thinkingLevel")
    return Thinking(
        effort=level.lower() if level else None,
        budget_tokens=config.get("thinkingBudget"),
        summary="auto" if config.get("includeThoughts") else None,
    )
