"""What whole answers and streams of Converse have in common: usage, finish reasons, thoughts."""

import base64
import binascii
from collections.abc import Mapping

import msgspec

from shared.chat.response import FinishReason
from shared.chat.usage import Usage
from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects.bedrock_media import PACKED
from shared.providers.dialects.bedrock_turns import WRAPPED
from shared.providers.dialects.bedrock_wire import Besides, TokenUsage

_FINISHES = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "guardrail_intervened": FinishReason.CONTENT_FILTER,
    "content_filtered": FinishReason.CONTENT_FILTER,
}
_BROKEN = frozenset({"malformed_model_output", "malformed_tool_use"})
_AN_HOUR = "1h"


def finish_of(reason: str | None, *, called: bool) -> FinishReason:
    """Return why the answer ended; `called`: it holds tool calls that the caller is to see.

    Some models say end_turn beside calls. Calls cut off by the output limit stay cut.

    Raises:
        UpstreamError: the word means that the answer broke.
    """
    if reason in _BROKEN:
        raise UpstreamError(
            FailureKind.SERVER_ERROR, f"The provider broke off its answer ({reason})."
        )
    finish = _FINISHES.get(reason or "", FinishReason.STOP)
    if finish in {FinishReason.STOP, FinishReason.TOOL_CALLS}:
        return FinishReason.TOOL_CALLS if called else FinishReason.STOP
    return finish


def usage_of(wire: TokenUsage | None, tier: str | None) -> Usage | None:
    """Return the counts; input counts the cache's tokens too, which Bedrock counts apart.

    None when neither side is counted; `estimated` without the output.
    """
    if wire is None or (wire.input_tokens is None and wire.output_tokens is None):
        return None
    read, written = wire.cache_read_input_tokens or 0, wire.cache_write_input_tokens or 0
    kept = sum(one.input_tokens or 0 for one in wire.cache_details or () if one.ttl == _AN_HOUR)
    return Usage(
        input_tokens=(wire.input_tokens or 0) + read + written,
        output_tokens=wire.output_tokens or 0,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(kept, written),
        estimated=wire.output_tokens is None,
        service_tier=tier,
    )


def tier_of(answer: Besides) -> str | None:
    """Return the tier that served, where the answer tells it."""
    return None if answer.service_tier is None else answer.service_tier.type


def extra_of(answer: Besides) -> dict[str, object]:
    """Return what the answer tells besides, in Bedrock's words."""
    told: Mapping[str, object] = {
        "trace": answer.trace,
        "performanceConfig": answer.performance_config,
        "additionalModelResponseFields": answer.additional_model_response_fields,
    }
    return {name: value for name, value in told.items() if value}


def proof_of(*redacted: str) -> str:
    """Return a redacted thought, out of its pieces, as its maker writes it.

    Bedrock packs it in base64 once more; what is no text inside stays packed, behind `PACKED`.
    """
    try:
        content = b"".join(base64.b64decode(piece, validate=True) for piece in redacted)
    except binascii.Error:
        return PACKED + "".join(redacted)
    try:
        return content.decode()
    except UnicodeDecodeError:
        return PACKED + base64.b64encode(content).decode()


def free_text(arguments: object) -> str:
    """Return what a tool that takes free text was given in its one argument."""
    text = arguments.get(WRAPPED) if isinstance(arguments, Mapping) else None
    return text if isinstance(text, str) else msgspec.json.encode(arguments).decode()
