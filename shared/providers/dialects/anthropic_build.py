"""A question in Anthropic's words; what the model cannot do is left out and named.

The documented choices where both cannot be had: the form of the answer goes before thinking,
thinking before sampling; a tool that cannot be forced is offered; a temperature above 1 is 1.
"""

import hashlib
import re
from collections.abc import Mapping

from shared.chat.request import ChatRequest, ResponseFormat, Sampling
from shared.errors import UnsupportedParameter
from shared.providers.dialects.anthropic_cache import bound_marks
from shared.providers.dialects.anthropic_models import Quirks, quirks_of
from shared.providers.dialects.anthropic_names import Names
from shared.providers.dialects.anthropic_parts import Block
from shared.providers.dialects.anthropic_schema import strict_schema
from shared.providers.dialects.anthropic_thinking import ThinkingPlan, plan_thinking
from shared.providers.dialects.anthropic_tools import ToolPlan, plan_tools
from shared.providers.dialects.anthropic_turns import Conversation, converse
from shared.providers.request import FetchedFile
from shared.providers.translation import Asked, Built

FILES_BETA = "files-api-2025-04-14"
OWN_FIELDS = frozenset({
    "thinking", "output_config", "cache_control", "container", "context_management", "mcp_servers",
    "inference_geo", "speed", "diagnostics",
})  # fmt: skip
"""Anthropic's words that a caller of another dialect may use (`extra_body` of OpenAI's SDK)."""

_NO_OPS: Mapping[str, tuple[object, ...]] = {
    "store": (False,),
    "stream_options": (),
    "modalities": (["text"],),
    "safety_identifier": (),
    "prompt_cache_key": (),
    "prompt_cache_retention": (),
    "functions": ([],),
}
"""Fields without a like here whose absence changes nothing, with those values; () is any value."""

_TIERS = {
    "default": "standard_only",
    "standard_only": "standard_only",
    "auto": "auto",
    "priority": "auto",
}
_MAIL = re.compile(r"[^@\s]+@[^@\s]+")
_LONGEST_USER = 256
_JSON_ONLY = "Answer with one JSON object and nothing else: no words around it, no code fence."
_NO_FILES: Mapping[str, FetchedFile] = {}


def build_request(chat: ChatRequest, files: Mapping[str, FetchedFile] = _NO_FILES) -> Built:
    """Return the question for `chat.model`; `files` are what was fetched for it, by URL.

    Raises:
        InvalidRequest: the conversation is not whole, or a part is broken.
        UnsupportedParameter: a part, tool or prefilled answer that the model cannot take.
    """
    quirks = quirks_of(chat.model)
    names = Names(tool.name for tool in chat.tools if tool.kind != "hosted")
    talk = converse(chat.messages, names=names, files=files)
    if talk.prefilled and not quirks.prefill:
        raise UnsupportedParameter(
            f"{chat.model} does not continue an answer: the last message must not be the "
            "assistant's.",
            param="messages",
        )
    schema = _schema_of(chat)
    tools = plan_tools(
        chat,
        names,
        forces=quirks.forces_tools,
        strict=quirks.schema,
        json_tool=schema is not None and not quirks.schema,
    )
    bare = talk.bare_calls and quirks.thinking == "budget"
    thinking = plan_thinking(
        chat.thinking,
        quirks,
        max_tokens=chat.sampling.max_output_tokens,
        blocked=tools.forced or talk.prefilled or bare,
    )
    dropped = _Dropped(chat)
    dropped.add("tool_choice", when=tools.gave_up and tools.json_tool is None)
    dropped.add("response_format", when=tools.gave_up and tools.json_tool is not None)
    dropped.add("reasoning_effort", when=thinking.dropped)
    body: dict[str, object] = {
        "model": chat.model,
        "max_tokens": thinking.max_tokens,
        "messages": talk.turns,
        **_system(talk, chat.response_format),
        **_tools(tools),
        **_sampling(chat.sampling, quirks, thinking=_thinks(chat, thinking), dropped=dropped),
        **_identity(chat, dropped),
        **_output(thinking, schema if quirks.schema else None),
        **({"stream": True} if chat.stream else {}),
    }
    _add_own(body, chat)
    bound_marks(body)
    asked = Asked(
        model=chat.model,
        tool_names=names.back,
        json_tool=tools.json_tool,
        custom_tools=tools.custom,
        tools=bool(chat.tools),
    )
    return Built(body=body, asked=asked, dropped=tuple(dropped.names), headers=_betas(talk))


class _Dropped:
    """What the model cannot be asked, by the caller's names."""

    def __init__(self, chat: ChatRequest) -> None:
        self.names: list[str] = []
        sampling = chat.sampling
        self.add("n", when=(sampling.n or 1) > 1)
        self.add("seed", when=sampling.seed is not None)
        self.add("presence_penalty", when=bool(sampling.presence_penalty))
        self.add("frequency_penalty", when=bool(sampling.frequency_penalty))
        self.add("logit_bias", when=bool(sampling.logit_bias))
        self.add("logprobs", when=bool(sampling.logprobs))
        self.add("top_logprobs", when=bool(sampling.top_logprobs))
        own = _own_names(chat)
        for name, value in chat.extra.items():
            values = _NO_OPS.get(name)
            harmless = values is not None and (not values or value in values)
            self.add(name, when=name not in own and value is not None and not harmless)

    def add(self, name: str, *, when: bool) -> None:
        """Note the field, once, when it is left out."""
        if when and name not in self.names:
            self.names.append(name)


def _system(talk: Conversation, wanted: ResponseFormat | None) -> dict[str, object]:
    """Return `system`: one text where no cache mark needs a block of its own."""
    blocks = list(talk.system)
    if wanted is not None and wanted.kind != "text" and wanted.schema is None:
        blocks.append({"type": "text", "text": _JSON_ONLY})
    if not blocks:
        return {}
    if any("cache_control" in block for block in blocks):
        return {"system": blocks}
    return {"system": "\n\n".join(str(block["text"]) for block in blocks)}


def _tools(plan: ToolPlan) -> dict[str, object]:
    if not plan.tools:
        return {}
    choice = {} if plan.choice is None else {"tool_choice": plan.choice}
    return {"tools": plan.tools, **choice}


def _sampling(
    wish: Sampling, quirks: Quirks, *, thinking: bool, dropped: _Dropped
) -> dict[str, object]:
    fields: dict[str, object] = {}
    stops = [stop for stop in wish.stop if stop.strip()]
    dropped.add("stop", when=len(stops) < len(wish.stop))
    if stops:
        fields["stop_sequences"] = stops
    free = quirks.sampling and not thinking
    if wish.temperature is not None:
        if free:
            fields["temperature"] = min(wish.temperature, 1.0)
        # While it thinks, 1 is the temperature.
        kept = wish.temperature <= 1 if free else wish.temperature == 1
        dropped.add("temperature", when=not kept)
    for name, value in (("top_p", wish.top_p), ("top_k", wish.top_k)):
        alone = not (name == "top_p" and quirks.one_sampler and "temperature" in fields)
        if value is not None and free and alone:
            fields[name] = value
        dropped.add(name, when=value is not None and name not in fields)
    return fields


def _thinks(chat: ChatRequest, plan: ThinkingPlan) -> bool:
    """Return whether it will think, by our plan or by the caller's own word for Anthropic."""
    match chat.extra.get("thinking"):
        case {"type": str(kind)}:
            return kind != "disabled"
        case _:
            return plan.on


def _identity(chat: ChatRequest, dropped: _Dropped) -> dict[str, object]:
    """Return who asks, and in which tier."""
    fields: dict[str, object] = {}
    metadata = dict(chat.metadata or {})
    user = chat.extra.get("safety_identifier") or chat.user or metadata.pop("user_id", None)
    dropped.add("metadata", when=bool(metadata))
    if isinstance(user, str) and user:
        fields["metadata"] = {"user_id": _user_id(user)}
    if chat.service_tier is not None:
        tier = _TIERS.get(chat.service_tier)
        dropped.add("service_tier", when=tier is None)
        if tier is not None:
            fields["service_tier"] = tier
    return fields


def _user_id(user: str) -> str:
    """Return the user's name, or a hash of it where Anthropic would refuse the name."""
    if _MAIL.search(user) or len(user) > _LONGEST_USER:
        return hashlib.sha256(user.encode()).hexdigest()
    return user


def _schema_of(chat: ChatRequest) -> Mapping[str, object] | None:
    """Return the schema that the answer is to follow, if any."""
    wanted = chat.response_format
    return wanted.schema if wanted is not None and wanted.kind == "json_schema" else None


def _output(plan: ThinkingPlan, schema: Mapping[str, object] | None) -> dict[str, object]:
    """Return how hard to think, and the form of the answer where the model knows forms."""
    config: Block = {}
    if plan.effort is not None:
        config["effort"] = plan.effort
    if schema is not None:
        config["format"] = {"type": "json_schema", "schema": strict_schema(schema)}
    fields: dict[str, object] = {"output_config": config} if config else {}
    return fields if plan.thinking is None else {**fields, "thinking": plan.thinking}


def _add_own(body: dict[str, object], chat: ChatRequest) -> None:
    """Add the caller's own words of Anthropic's; they count more than what was made for them."""
    for name in _own_names(chat):
        value, made = chat.extra[name], body.get(name)
        both = isinstance(value, Mapping) and isinstance(made, Mapping) and name != "thinking"
        body[name] = {**made, **value} if both else value  # type: ignore[dict-item]


def _own_names(chat: ChatRequest) -> list[str]:
    own = chat.dialect == "anthropic"
    return [name for name in chat.extra if own or name in OWN_FIELDS]


def _betas(talk: Conversation) -> Mapping[str, str]:
    """Return the header that stored files need."""
    blocks: list[Block] = [block for turn in talk.turns for block in turn["content"]]  # type: ignore[attr-defined]
    sources = (block.get("source") for block in blocks)
    stored = any(isinstance(source, dict) and source.get("type") == "file" for source in sources)
    return {"anthropic-beta": FILES_BETA} if stored else {}
