"""Why Gemini stopped, in the canonical words."""

from shared.chat.response import FinishReason
from shared.errors import FailureKind, UpstreamError

_FILTERED = frozenset({
    "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR",
})  # fmt: skip
_CUT = frozenset({"MAX_TOKENS", "CONTINUATION"})


def finish_of(reason: str, message: str | None = None, *, calls: bool, says: bool) -> FinishReason:
    """Return the canonical reason; `calls` and `says` tell what the whole answer holds.

    Cut and filtered answers stay that, with calls in them too.

    Raises:
        UpstreamError: SERVER_ERROR, the answer broke (a malformed call and its like) and holds
            nothing of use; an empty stop would hide that.
    """
    if reason in _CUT:
        return FinishReason.LENGTH
    if reason in _FILTERED:
        return FinishReason.CONTENT_FILTER
    if calls:
        return FinishReason.TOOL_CALLS
    if reason == "STOP" or says:
        return FinishReason.STOP
    why = f": {message}" if message else ""
    raise UpstreamError(
        FailureKind.SERVER_ERROR,
        f"The provider broke off its answer ({reason}){why}",
        upstream_code=reason,
        billed=True,
    )
