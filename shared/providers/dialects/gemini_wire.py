"""The JSON of Gemini's answers as Structs: what is read of it, lenient where it may be missing."""

from typing import Any

import msgspec


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
    token_count: int | None = None


class UsageMetadata(msgspec.Struct, rename="camel"):
    """Token counts; each may be missing, also of later chunks."""

    prompt_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
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


decode = msgspec.json.Decoder(Answer).decode
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `decode` raises on bytes that are no answer."""
