"""Mistral's platform."""

import hashlib
import re
import string

from shared.providers.dialects.openai_draft import (
    Draft,
    Json,
    drops,
    max_tokens_only,
    renames,
)
from shared.providers.dialects.openai_embeddings import floats_only, texts_only
from shared.providers.dialects.openai_messages import (
    short_call_ids,
    system_first,
    text_of,
    thoughts_as,
    without_call_extras,
    without_names,
)
from shared.providers.dialects.openai_models import IMITATOR
from shared.providers.dialects.openai_tools import tool_choice_word
from shared.providers.dialects.passed import MODERATIONS, TRANSCRIPTIONS
from shared.providers.relay import CHAT_ONLY, RelayAdapter, Vendor

_ID = re.compile(r"[a-zA-Z0-9]{9}")
_LETTERS = string.ascii_letters + string.digits
_BETWEEN = "OK."
"""Said by the assistant between a tool's answer and the user's next words: several models take
nothing but an assistant after a tool."""


def nine_characters(old: str, tries: int) -> str:
    """Return the id of nine letters and digits that stands for a foreign one."""
    digest = hashlib.blake2b(f"{old}#{tries}".encode(), digest_size=9).digest()
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest)


def turns(draft: Draft) -> None:
    """Nobody but an assistant follows a tool, none says nothing, and the last may be a prefix."""
    turned: list[Json] = []
    for message in draft.messages():
        role = message.get("role")
        if role == "assistant" and not message.get("tool_calls") and not message.get("content"):
            continue
        if role == "user" and turned and turned[-1].get("role") == "tool":
            turned.append({"role": "assistant", "content": _BETWEEN})
        turned.append(message)
    if turned and turned[-1].get("role") == "assistant" and not turned[-1].get("tool_calls"):
        turned[-1]["prefix"] = True
    draft.body["messages"] = turned


def thoughts_as_parts(draft: Draft) -> None:
    """Thoughts of the history stand in the content, as they came."""
    for message in draft.messages():
        thought = message.pop("reasoning_content", None)
        if thought:
            text = text_of(message)
            parts = [{"type": "thinking", "thinking": [{"type": "text", "text": thought}]}]
            message["content"] = [*parts, *([{"type": "text", "text": text}] if text else [])]


def effort(draft: Draft) -> None:
    """Newer models think or do not; magistral always does."""
    if not draft.has("reasoning_effort"):
        return
    if "magistral" in draft.model.lower():
        draft.drop("reasoning_effort")
        return
    wanted = draft.read("reasoning_effort")
    draft.body["reasoning_effort"] = "none" if wanted in ("none", "minimal") else "high"


VENDOR = Vendor(
    kind="mistral",
    base_url="https://api.mistral.ai/v1",
    # Usage comes in any case, with the finish reason; the field that asks for it is refused.
    stream_options=False,
    endpoints=frozenset({*CHAT_ONLY, "/v1/embeddings", MODERATIONS, TRANSCRIPTIONS}),
    vectors=(floats_only, texts_only, renames("dimensions", "output_dimension"), drops("user")),
    steps=(
        *IMITATOR,
        max_tokens_only,
        renames("seed", "random_seed"),
        tool_choice_word("any"),
        effort,
        without_names,
        system_first,
        without_call_extras,
        thoughts_as("reasoning_content"),
        short_call_ids(lambda one: _ID.fullmatch(one) is not None, nine_characters),
        thoughts_as_parts,
        turns,
        drops("stream_options"),
        drops("logprobs", "top_logprobs", "user", "logit_bias", "safety_identifier", "store",
              "service_tier", "verbosity", "modalities", "web_search_options", "top_k",
              "prompt_cache_key", "prompt_cache_retention"),
    ),
)  # fmt: skip

ADAPTERS = (RelayAdapter(VENDOR),)
