"""The JSON of Gemini's answers as Structs: what is read of it, lenient where it may be missing."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Protocol, TypeVar

import msgspec

from shared.providers.dialects.counts import count_in, parts_in, text_in, without_odd_counts

_Count = Annotated[int, msgspec.Meta(ge=0)]


class FunctionCall(msgspec.Struct, rename="camel"):
    """A call; `args` stay as they were written."""

    name: str = ""
    args: msgspec.Raw = msgspec.Raw()
    id: str | None = None


class Blob(msgspec.Struct, rename="camel"):
    """Content within the answer."""

    data: str = ""
    mime_type: str = "application/octet-stream"


class Part(msgspec.Struct, rename="camel"):
    """A piece of what was said; one of its fields is set, besides thought and its proof."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    inline_data: Blob | None = None
    executable_code: dict[str, Any] | None = None
    code_execution_result: dict[str, Any] | None = None


class Content(msgspec.Struct, rename="camel"):
    """What one side said."""

    parts: list[Part] | None = None


class Candidate(msgspec.Struct, rename="camel"):
    """One answer, or the next piece of it."""

    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int | None = None
    safety_ratings: Any = None
    citation_metadata: Any = None
    grounding_metadata: dict[str, Any] | None = None
    url_context_metadata: Any = None
    avg_logprobs: Any = None
    logprobs_result: dict[str, Any] | None = None


class Modality(msgspec.Struct, rename="camel"):
    """Tokens of one kind of content."""

    modality: str = ""
    token_count: _Count | None = None


class UsageMetadata(msgspec.Struct, rename="camel"):
    """Token counts; each may be missing, also of later chunks."""

    prompt_token_count: _Count | None = None
    tool_use_prompt_token_count: _Count | None = None
    cached_content_token_count: _Count | None = None
    candidates_token_count: _Count | None = None
    thoughts_token_count: _Count | None = None
    prompt_tokens_details: list[Modality] | None = None
    cache_tokens_details: list[Modality] | None = None
    candidates_tokens_details: list[Modality] | None = None
    service_tier: str | None = None
    traffic_type: str | None = None


class PromptFeedback(msgspec.Struct, rename="camel"):
    """Why a prompt got no answer."""

    block_reason: str | None = None
    block_reason_message: str | None = None
    safety_ratings: Any = None


class Answer(msgspec.Struct, rename="camel"):
    """A whole answer, or a chunk of a stream."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: UsageMetadata | None = None
    model_version: str | None = None
    response_id: str | None = None
    create_time: str | None = None
    error: Any = None


class _Counting(Protocol):
    usage_metadata: UsageMetadata | None


_Counted = TypeVar("_Counted", bound=_Counting)


def leniently(strictly: Callable[[bytes], _Counted]) -> Callable[[bytes], _Counted]:
    """Return a decoder that leaves out what is no count instead of refusing the whole answer."""
    return without_odd_counts(strictly, "usageMetadata", _keep)


def _keep(answer: _Counting, usage: Mapping[str, object] | None) -> None:
    answer.usage_metadata = None if usage is None else _cleaned(usage)


def _cleaned(usage: Mapping[str, object]) -> UsageMetadata:
    return UsageMetadata(
        prompt_token_count=count_in(usage, "promptTokenCount"),
        tool_use_prompt_token_count=count_in(usage, "toolUsePromptTokenCount"),
        cached_content_token_count=count_in(usage, "cachedContentTokenCount"),
        candidates_token_count=count_in(usage, "candidatesTokenCount"),
        thoughts_token_count=count_in(usage, "thoughtsTokenCount"),
        prompt_tokens_details=_modalities(usage, "promptTokensDetails"),
        cache_tokens_details=_modalities(usage, "cacheTokensDetails"),
        candidates_tokens_details=_modalities(usage, "candidatesTokensDetails"),
        service_tier=text_in(usage, "serviceTier"),
        traffic_type=text_in(usage, "trafficType"),
    )


def _modalities(usage: Mapping[str, object], name: str) -> list[Modality]:
    return [
        Modality(modality=text_in(part, "modality") or "", token_count=count_in(part, "tokenCount"))
        for part in parts_in(usage, name)
    ]


decode = leniently(msgspec.json.Decoder(Answer).decode)
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `decode` raises on bytes that are no answer."""
