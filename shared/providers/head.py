"""What is refused at the door: answers whose head says that their body cannot be one."""

from collections.abc import Mapping

from shared.errors import FailureKind, UpstreamError

_STREAMS = ("text/event-stream", "application/json", "text/plain", "application/octet-stream", "")
"""JSON because some servers put an error there with status 200; the scanner reads it."""

_USUAL = frozenset(
    {
        "application/json",
        "application/json; charset=utf-8",
        "text/event-stream",
        "text/event-stream; charset=utf-8",
    }
)
"""What nearly all answers come as."""


def refuse_body(headers: Mapping[str, str]) -> UpstreamError | None:
    """Return why a 2xx answer cannot be read, or None. We ask for no encoding and no HTML."""
    told = headers.get("content-encoding")
    if told is None and headers.get("content-type") in _USUAL:
        return None
    encoding = (told or "").strip().lower()
    if encoding not in {"", "identity"}:
        return _malformed(f"The provider encoded its answer ({encoding[:40]}) without being asked.")
    if _media_type(headers) in {"text/html", "application/xhtml+xml"}:
        return _malformed("The provider's address answered with a web page.")
    return None


def refuse_stream(headers: Mapping[str, str]) -> UpstreamError | None:
    """Return why a 2xx answer cannot be an event stream, or None."""
    refused = refuse_body(headers)
    if refused is not None:
        return refused
    media_type = _media_type(headers)
    if media_type not in _STREAMS:
        return _malformed(f"The provider answered a stream with {media_type[:80]}.")
    return None


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _malformed(message: str) -> UpstreamError:
    return UpstreamError(FailureKind.MALFORMED, message)
