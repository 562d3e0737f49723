"""Questions in Bedrock's Converse dialect."""

from collections.abc import Mapping
from typing import Any, Literal

from shared.chat.request import ChatRequest
from shared.providers.dialects.anthropic_thinking import plan_thinking
from shared.providers.dialects.bedrock_media import Block, Media
from shared.providers.dialects.bedrock_models import Family, family_of
from shared.providers.dialects.bedrock_names import ToolNames
from shared.providers.dialects.bedrock_tools import ToolPlan, plan_tools
from shared.providers.dialects.bedrock_turns import Conversation, converse
from shared.providers.request import FetchedFile
from shared.providers.translation import Asked, Built

MOST_MARKS = 4
"""Cache marks of one request; more are refused."""
_MOST_METADATA = 16
_LONGEST_METADATA = 256

_OWN_FIELDS = frozenset({
    "additionalModelRequestFields", "additionalModelResponseFieldPaths", "guardrailConfig",
    "performanceConfig", "promptVariables", "requestMetadata",
})  # fmt: skip
"""Converse's own, which callers may send beside those of their dialect."""
_CLAUDES_FIELDS = frozenset({"thinking", "output_config", "anthropic_beta"})
"""Anthropic's own, which Claude reads here too."""
_BETAS = frozenset({"context_management"})
_ABSENT = (
    "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs",
)  # fmt: skip
"""Of Sampling, where 0, false and nothing ask for nothing."""
_TIERS = {"default": "default", "standard_only": "default", "flex": "flex", "priority": "priority"}
_HARMLESS = frozenset({"store", "stream_options", "prompt_cache_key", "safety_identifier"})
"""Fields about the caller's account with its own vendor; leaving them out loses nothing."""

_NO_FILES: Mapping[str, FetchedFile] = {}
Effort = Literal["low", "medium", "high"]


def build_request(chat: ChatRequest, files: Mapping[str, FetchedFile] = _NO_FILES) -> Built:
    """Return the question for the model that `chat` names. `files` are those at its URLs.

    Raises:
        InvalidRequest: the history cannot be told: a call without a result, a broken data URL.
        UnsupportedParameter: a part that the model cannot read.
    """
    family = family_of(chat.model)
    spoken = [call.name for message in chat.messages for call in message.tool_calls]
    names = ToolNames([*(tool.name for tool in chat.tools), *spoken])
    tools = plan_tools(chat, family, names)
    conversation = converse(chat.messages, family=family, names=names, media=Media(files, family))
    draft = _Draft(chat, family, tools, conversation)
    body = draft.body()
    _bound_marks(body)
    return Built(
        body=body,
        asked=Asked(
            model=chat.model,
            tool_names=names.callers,
            json_tool=tools.json_tool,
            custom_tools=tools.custom_tools,
            tools=bool(chat.tools),
        ),
        dropped=tuple(draft.dropped),
    )


class _Draft:
    """The body of one question; `dropped` fills up with what has no place in it."""

    def __init__(
        self, chat: ChatRequest, family: Family, tools: ToolPlan, conversation: Conversation
    ) -> None:
        self.dropped = list(dict.fromkeys([*tools.dropped, *chat.lost]))
        self._chat = chat
        self._family = family
        self._tools = tools
        self._conversation = conversation
        self._inference: Block = {}
        self._model_fields: Block = {}

    def body(self) -> Block:
        """Return the body."""
        body: Block = {"messages": self._conversation.turns}
        system = self._system(body)
        thinking = self._think()
        self._sample(thinking=thinking)
        if system:
            body["system"] = system
        if self._inference:
            body["inferenceConfig"] = self._inference
        if self._tools.config is not None:
            body["toolConfig"] = self._tools.config
        if self._tools.native_choice is not None:
            self._model_fields["tool_choice"] = self._tools.native_choice
        if self._tools.text_format is not None:
            body["outputConfig"] = {"textFormat": self._tools.text_format}
        self._account(body)
        self._besides(body)
        return body

    def _system(self, body: Block) -> list[Block]:
        system: list[Block] = [*self._conversation.system]
        instructions: list[Block] = [{"text": text} for text in self._tools.instructions]
        if instructions and not self._family.system:
            first = self._conversation.turns[0]
            rest = self._conversation.turns[1:]
            content = [*instructions, *first["content"]]  # type: ignore[misc]
            body["messages"] = [{"role": "user", "content": content}, *rest]
            return []
        return [*system, *instructions]

    def _think(self) -> bool:
        """Ask for thoughts; return whether they will come."""
        wish, sampling = self._chat.thinking, self._chat.sampling
        if sampling.max_output_tokens is not None:
            self._inference["maxTokens"] = sampling.max_output_tokens
        if self._family.claude is not None:
            return self._think_as_claude()
        effort = None if wish is None else wish.effort
        if wish is None or effort == "none" or wish.enabled is False:
            return False
        match self._family.thinks:
            case "nova":
                config = {"type": "enabled", "maxReasoningEffort": _level(effort)}
                self._model_fields["reasoningConfig"] = config
                return True
            case "effort":
                self._model_fields["reasoning_effort"] = _level(effort)
                return False
            case None:
                self._drop("reasoning_effort", when=True)
                return False

    def _think_as_claude(self) -> bool:
        quirks = self._family.claude
        assert quirks is not None  # noqa: S101 (the caller has looked)
        budget = quirks.thinking == "budget"
        plan = plan_thinking(
            self._chat.thinking,
            quirks,
            max_tokens=self._chat.sampling.max_output_tokens,
            blocked=self._tools.forced
            or self._conversation.prefilled
            or (budget and self._conversation.bare_calls),
        )
        self._drop("reasoning_effort", when=plan.dropped)
        if plan.thinking is not None:
            self._model_fields["thinking"] = plan.thinking
            if budget:  # it has to be smaller than what the model would allow by itself
                self._inference["maxTokens"] = plan.max_tokens
        if plan.effort is not None:
            self._model_fields["output_config"] = {"effort": plan.effort}
        return plan.on

    def _sample(self, *, thinking: bool) -> None:
        sampling, claude = self._chat.sampling, self._family.claude
        thinking = _thinks(self._chat.extra.get("thinking"), otherwise=thinking)
        free = claude is None or (claude.sampling and not thinking)
        warm = sampling.temperature
        if warm is not None:
            if free:
                self._inference["temperature"] = min(1.0, warm)
            # While Claude thinks, 1 is its temperature.
            self._drop("temperature", when=warm > 1 if free else warm != 1)
        if sampling.top_p is not None:
            alone = claude is None or not claude.one_sampler or warm is None
            if free and alone:
                self._inference["topP"] = sampling.top_p
            self._drop("top_p", when=not (free and alone))
        if sampling.top_k is not None:
            place = self._family.top_k if free else ()
            if place:
                _put(self._model_fields, place, sampling.top_k)
            self._drop("top_k", when=not place)
        stops = [stop for stop in sampling.stop if stop.strip()]
        if stops:
            self._inference["stopSequences"] = stops
        self._drop("stop", when=len(stops) < len(sampling.stop))
        self._drop("n", when=(sampling.n or 1) > 1)
        self._drop("seed", when=sampling.seed is not None)
        for name in _ABSENT:
            self._drop(name, when=bool(getattr(sampling, name)))

    def _drop(self, name: str, *, when: bool) -> None:
        if when and name not in self.dropped:
            self.dropped.append(name)

    def _account(self, body: Block) -> None:
        metadata = self._chat.metadata
        if metadata:
            if _is_request_metadata(metadata):
                body["requestMetadata"] = dict(metadata)
            else:
                self._drop("metadata", when=True)
        tier = self._chat.service_tier
        if tier in _TIERS:
            body["serviceTier"] = {"type": _TIERS[tier]}
        else:
            self._drop("service_tier", when=tier not in {None, "auto"})

    def _besides(self, body: Block) -> None:
        """Pass on the caller's fields that Bedrock, or Claude on it, knows."""
        for name, value in self._chat.extra.items():
            if name in _OWN_FIELDS:
                body[name] = value
            elif name in self._claudes():
                self._model_fields[name] = value
            else:
                self._drop(name, when=name not in _HARMLESS and value is not None)
        if self._model_fields:
            given = body.get("additionalModelRequestFields")
            own = given if isinstance(given, dict) else {}
            body["additionalModelRequestFields"] = {**self._model_fields, **own}

    def _claudes(self) -> frozenset[str]:
        """Return what only Claude reads; what is in beta is refused without the beta's name."""
        if self._family.claude is None:
            return frozenset()
        return _CLAUDES_FIELDS | (_BETAS if "anthropic_beta" in self._chat.extra else frozenset())


def _bound_marks(body: Mapping[str, Any]) -> None:
    """Take out the cache marks that would be refused.

    Kept are the first, which other conversations share, and the last. An hour after five minutes is
    five minutes too. Both in the service's order: tools, system, messages.
    """
    lists = [body.get("toolConfig", {}).get("tools", []), body.get("system", [])]
    lists += [turn["content"] for turn in body["messages"]]
    marked = [(blocks, block) for blocks in lists for block in blocks if "cachePoint" in block]
    surplus = marked[1 : len(marked) - MOST_MARKS + 1]
    for blocks, block in surplus:
        blocks[:] = [one for one in blocks if one is not block]
    short = False
    for _, block in marked[:1] + marked[1 + len(surplus) :]:
        mark = block["cachePoint"]
        if short:
            mark.pop("ttl", None)
        short = short or "ttl" not in mark


def _thinks(own: object, *, otherwise: bool) -> bool:
    """Return whether Claude will think, by the caller's own word for it or by our plan."""
    match own:
        case {"type": str(kind)}:
            return kind != "disabled"
        case _:
            return otherwise


def _level(effort: str | None) -> Effort:
    match effort:
        case "minimal" | "low":
            return "low"
        case "high" | "xhigh" | "max":
            return "high"
        case _:
            return "medium"


def _put(fields: Block, path: tuple[str, ...], value: object) -> None:
    *outer, last = path
    for name in outer:
        fields = fields.setdefault(name, {})  # type: ignore[assignment]
    fields[last] = value


def _is_request_metadata(metadata: Mapping[str, object]) -> bool:
    """Whether the service would take it: few, short and plain texts."""
    return len(metadata) <= _MOST_METADATA and all(
        0 < len(key) <= _LONGEST_METADATA
        and isinstance(value, str)
        and len(value) <= _LONGEST_METADATA
        for key, value in metadata.items()
    )
