"""DeepSeek's platform; its models think unless they are told not to."""

import msgspec

from shared.providers.dialects.openai_draft import Draft, drops, max_tokens_only
from shared.providers.dialects.openai_messages import (
    refuses_parts,
    thoughts_as,
    without_call_extras,
    without_names,
)
from shared.providers.dialects.openai_models import IMITATOR
from shared.providers.dialects.openai_tools import forced, no_forced_choice
from shared.providers.relay import CHAT_ONLY, RelayAdapter, Vendor

_SCHEMA = "Answer with one JSON object, and nothing else, by this JSON Schema:\n"
_JSON = "Answer with one JSON object, and nothing else."


def thinking(draft: Draft) -> None:
    """Turn the words for effort into the switch, and settle thinking against a forced call.

    A call can be forced only without thinking. Who asked for both gets the thinking, and the force
    is dropped; who only forces a call gets it without thinking.
    """
    if draft.has("reasoning_effort"):
        off = draft.read("reasoning_effort") == "none"
        draft.body.pop("reasoning_effort")
        draft.body.setdefault("thinking", {"type": "disabled" if off else "enabled"})
    if not forced(draft) or not thinks(draft):
        return
    if draft.has("thinking"):
        no_forced_choice(draft)
    else:
        draft.body["thinking"] = {"type": "disabled"}


def thinks(draft: Draft) -> bool:
    """Return whether the model will think."""
    match draft.read("thinking") if draft.has("thinking") else None:
        case {"type": "disabled"}:
            return False
        case _:
            return True


def thoughts_kept(draft: Draft) -> None:
    """While it thinks, DeepSeek wants the thoughts of every assistant's turn back, even empty."""
    if not any(head.role == "assistant" for head in draft.heads()) or not thinks(draft):
        return
    for message in draft.messages():
        if message.get("role") == "assistant":
            message.setdefault("reasoning_content", "")


def schema_as_words(draft: Draft) -> None:
    """A schema is refused: it goes into the prompt, and a JSON object is asked for.

    The prompt must hold the word json in any case.
    """
    if not draft.has("response_format"):
        return
    wanted = draft.read("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_schema":
        declared = wanted.get("json_schema")
        schema = declared.get("schema") if isinstance(declared, dict) else None
        hint = _SCHEMA + msgspec.json.encode(schema or {}).decode()
        draft.body["response_format"] = {"type": "json_object"}
    elif kind == "json_object" and b"json" not in _prompt(draft):
        hint = _JSON
    else:
        return
    messages = draft.messages()
    leading = 0
    while leading < len(messages) and messages[leading].get("role") == "system":
        leading += 1
    messages.insert(leading, {"role": "system", "content": hint})
    draft.body["messages"] = messages


def _prompt(draft: Draft) -> bytes:
    return msgspec.json.encode(draft.messages()).lower()


VENDOR = Vendor(
    kind="deepseek",
    base_url="https://api.deepseek.com",
    endpoints=CHAT_ONLY,
    steps=(
        *IMITATOR,
        refuses_parts("image_url", "input_audio", "file"),
        max_tokens_only,
        without_names,
        without_call_extras,
        thoughts_as("reasoning_content"),
        thinking,
        thoughts_kept,
        schema_as_words,
        drops("n", "seed", "logit_bias", "parallel_tool_calls", "top_k", "metadata", "store",
              "service_tier", "modalities", "verbosity", "web_search_options"),
    ),
)  # fmt: skip

ADAPTERS = (RelayAdapter(VENDOR),)
