"""Recorded traffic put to the adapters: the question asked again, the answer read again."""

import json
from collections.abc import Mapping

import msgspec

from shared.chat.message import Message, ToolCall
from shared.chat.request import ChatRequest
from shared.config.model import ProviderConfig
from shared.gateway.parse import ENDPOINTS, parse_request
from shared.providers.aws import Signer
from shared.providers.exchange import Exchange, HttpResponse
from shared.providers.registry import adapter_for
from shared.providers.request import FetchedFile
from shared.providers.served import SERVED
from shared.providers.target import Target
from tests.cassettes import Interaction
from tests.readings import anthropic, bedrock, gemini, openai, responses
from tests.readings.said import Said

PATHS = {
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "responses": "/v1/responses",
}
CALLERS = tuple(name for name, path in PATHS.items() if path in ENDPOINTS)
"""The dialects that are served, by the names of their readings."""

READINGS = {
    "openai": openai,
    "anthropic": anthropic,
    "responses": responses,
    "gemini": gemini,
    "bedrock": bedrock,
}
PICTURE = FetchedFile(media_type="image/png", content=b"\x89PNG\r\n\x1a\n")
SIGNER = Signer(access_key="AKIATEST", secret_key="secret", at="20260101T000000Z")
SECRETS = {"bedrock": SIGNER.as_secret()}


def question(dialect: str, body: Mapping, model: str, *, stream: bool) -> ChatRequest:
    """Return a recorded question in the canonical language."""
    if dialect in {"gemini", "bedrock"}:
        return READINGS[dialect].question(body, model, stream=stream)
    served = SERVED[PATHS[dialect]]
    return served.parse_request(json.dumps({"model": model, **body}).encode())


def asked_by(caller: str, recorded: Interaction) -> dict:
    """Return the body with which a caller of this dialect would ask the same."""
    if caller == recorded.dialect:
        return {"model": recorded.model, **recorded.asked}
    chat = question(recorded.dialect, recorded.asked, recorded.model, stream=recorded.streams)
    if "openai" == caller:
        return openai.asked(chat)
    return _simply_asked(caller, chat)


def _simply_asked(caller: str, chat: ChatRequest) -> dict:
    """Return a question with the same tools; for tests that look at the answer only."""
    body: dict = {"model": chat.model, **({"stream": True} if chat.stream else {})}
    if "responses" == caller:
        tools = [
            {"type": "function", "name": tool.name, "parameters": tool.parameters or {}}
            for tool in chat.tools
        ]
        return {**body, "input": "hi", "store": False, **({"tools": tools} if tools else {})}
    tools = [
        {"name": tool.name, "input_schema": tool.parameters or {"type": "object"}}
        for tool in chat.tools
    ]
    messages = [{"role": "user", "content": "hi"}]
    asked = {**body, "max_tokens": 4096, "messages": messages}
    return {**asked, **({"tools": tools} if tools else {})}


def exchange_of(recorded: Interaction, path: str, body: Mapping) -> Exchange:
    """Return the exchange with the recorded provider for a caller's body."""
    config = recorded.provider
    provider = msgspec.convert(config, ProviderConfig)
    adapter = adapter_for(config["kind"])
    target = Target(provider="vendor", model=recorded.model)
    request = parse_request(path, json.dumps(body).encode())
    urls = adapter.fetches(request, target)
    if urls:
        request = msgspec.structs.replace(request, files=dict.fromkeys(urls, PICTURE))
    secret = SECRETS.get(config["kind"], "sk-test")
    return adapter.exchange(provider, secret, request, target)


def response_of(recorded: Interaction) -> HttpResponse:
    """Return the recorded answer."""
    return HttpResponse(status=recorded.status, headers=recorded.headers, body=recorded.answer)


def said_by(recorded: Interaction) -> Said:
    """Return what the provider said, read from its own wire."""
    reading = READINGS[recorded.dialect]
    if recorded.streams:
        return reading.streamed(recorded.answer)
    return reading.whole(json.loads(recorded.answer))


def plain(chat: ChatRequest) -> ChatRequest:
    """Return a question without what makes no difference to its meaning.

    Ids of calls are numbered, arguments written alike, and settings left out that say what holds
    without them.
    """
    names: dict[str, str] = {}
    usual = chat.tool_choice is not None and "auto" == chat.tool_choice.mode
    sampling = chat.sampling
    return msgspec.structs.replace(
        chat,
        dialect="",
        messages=tuple(_plain_message(message, names) for message in chat.messages),
        tools=tuple(
            msgspec.structs.replace(
                tool, description=tool.description or None, strict=tool.strict or None
            )
            for tool in chat.tools
        ),
        tool_choice=None if usual and not chat.tool_choice.allowed else chat.tool_choice,
        sampling=msgspec.structs.replace(sampling, n=None if 1 == sampling.n else sampling.n),
        include_usage=False,
    )


def _plain_message(message: Message, names: dict[str, str]) -> Message:
    def named(call_id: str) -> str:
        return names.setdefault(call_id, f"call {len(names)}")

    return msgspec.structs.replace(
        message,
        parts=tuple(part for part in message.parts if getattr(part, "text", "x")),
        tool_calls=tuple(_plain_call(call, named(call.id)) for call in message.tool_calls),
        tool_call_id=named(message.tool_call_id) if message.tool_call_id else None,
    )


def _plain_call(call: ToolCall, name: str) -> ToolCall:
    arguments = json.dumps(json.loads(call.arguments or "{}"), sort_keys=True)
    signature = call.signature and standard(call.signature)
    return msgspec.structs.replace(call, id=name, arguments=arguments, signature=signature)


def standard(text: str) -> str:
    """Return base64 in its standard alphabet; Google's SDK sends it back in the other."""
    return text.replace("-", "+").replace("_", "/")


def texts_in(value: object) -> set[str]:
    """Return every text at the leaves of a JSON value, and of JSON inside its texts."""
    match value:
        case dict():
            return {text for inner in value.values() for text in texts_in(inner)}
        case list():
            return {text for inner in value for text in texts_in(inner)}
        case str():
            return _texts_in_text(value)
        case _:
            return set()


def _texts_in_text(text: str) -> set[str]:
    if text.startswith(("{", "[")):
        try:
            return texts_in(json.loads(text))
        except ValueError:
            pass
    return {standard(text)} if text else set()
