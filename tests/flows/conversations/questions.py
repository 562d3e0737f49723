"""How a fake reads what it is asked, in the dialect of its vendor."""

import json
import re
from urllib.parse import unquote

from shared.chat.request import ChatRequest
from shared.providers.served import SERVED
from tests.fakes.upstream import Recorded
from tests.fakes.vendors.brain import Read
from tests.flows.conversations.rows import Row
from tests.readings import bedrock, gemini

CHAT = "/v1/chat/completions"
_MODEL = re.compile(r"/models?/([^/]+?)(?::\w+|/converse(?:-stream)?)$")


def read_by(row: Row) -> Read:
    """Return how this vendor's questions are read."""
    match row.dialect:
        case "gemini":
            return lambda request: gemini.question(request.json, _model(request), stream=False)
        case "bedrock":
            return lambda request: bedrock.question(request.json, _model(request), stream=False)
        case _:
            return _by_path


def _by_path(request: Recorded) -> ChatRequest:
    path = request.path.partition("?")[0]
    if path.endswith("/api/chat"):
        return _ollama(request.json)
    served = next((known for known in SERVED if path.endswith(known.removeprefix("/v1"))), CHAT)
    return SERVED[served].parse_request(request.body)


def _model(request: Recorded) -> str:
    found = _MODEL.search(unquote(request.path.partition("?")[0]))
    return found[1] if found else ""


def _ollama(body: dict) -> ChatRequest:
    """Read Ollama's words as far as a brain needs them: who spoke last, the tools, the form."""
    messages = [
        {"role": message["role"], "content": message.get("content") or "", "tool_call_id": "1"}
        for message in body["messages"]
    ]
    form = body.get("format")
    schema = {"name": "answer", "schema": form}
    wanted = {
        "response_format": {"type": "json_schema", "json_schema": schema}
        if isinstance(form, dict)
        else {"type": "json_object"}
    }
    asked = {
        "model": body["model"],
        "messages": messages,
        "tools": body.get("tools") or [],
        **(wanted if form else {}),
    }
    return SERVED[CHAT].parse_request(json.dumps(asked).encode())
