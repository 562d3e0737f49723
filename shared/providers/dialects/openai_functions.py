"""OpenAI's old words for tools: `functions`, `function_call`, and the role `function`.

Whoever speaks them may call one function at a time, and reads its call in `function_call`.
"""

from collections.abc import Iterable, Iterator

import msgspec

from shared.providers.dialects.openai_wire import WireCall, WireMessage, WireRequest, WireTool


def modern(wire: WireRequest) -> WireRequest:
    """Return the request in the words of today; one that has no old ones is not touched."""
    messages = wire.messages
    if any(said.function_call is not None or said.role == "function" for said in messages):
        messages = list(_messages(messages))
    if not wire.functions:
        return msgspec.structs.replace(wire, messages=messages)
    choice = wire.function_call
    if isinstance(choice, dict):
        choice = {"type": "function", "function": choice}
    return msgspec.structs.replace(
        wire,
        messages=messages,
        tools=wire.tools or [WireTool(function=declared) for declared in wire.functions],
        tool_choice=choice if wire.tool_choice is None else wire.tool_choice,
        parallel_tool_calls=False,
    )


def _messages(messages: Iterable[WireMessage]) -> Iterator[WireMessage]:
    """Yield the messages; a call gets an id of ours, and the next result refers to it."""
    last: str | None = None
    for at, message in enumerate(messages):
        if message.role == "function":
            yield msgspec.structs.replace(message, role="tool", tool_call_id=last)
        elif message.function_call is not None and not message.tool_calls:
            last = f"call_{at}"
            call = WireCall(id=last, type="function", function=message.function_call)
            yield msgspec.structs.replace(message, tool_calls=[call])
        else:
            yield message
