"""Short questions for Gemini, and what is sent of them."""

from shared.chat.message import Message, TextPart, ToolCall
from shared.chat.request import ChatRequest
from shared.providers.dialects.gemini_request import build_request


def said(role, text="x", **fields):
    return Message(role=role, parts=(TextPart(text=text),), **fields)


def calling(*calls, **fields):
    made = tuple(ToolCall(id=id_, name=name, arguments="{}") for id_, name in calls)
    return Message(role="assistant", tool_calls=made, **fields)


def answered(call_id, text="r", **fields):
    return said("tool", text, tool_call_id=call_id, **fields)


def built(*messages, model="gemini-3-flash", vertex=False, files=None, **fields):
    chat = ChatRequest(model=model, messages=messages or (said("user"),), **fields)
    return build_request(chat, vertex=vertex, files=files or {})


def contents(*messages, **how):
    return built(*messages, **how).body["contents"]


def config(**fields):
    return built(**fields).body.get("generationConfig", {})


def part(message_part, **how):
    (content,) = contents(Message(role="user", parts=(message_part,)), **how)
    (found,) = content["parts"]
    return found
