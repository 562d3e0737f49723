"""What can go wrong on the way to a provider, in words without secrets: the host only."""

from shared.errors import FailureKind, UpstreamError


def connect_took_too_long(host: str) -> UpstreamError:
    """DNS, TCP and TLS together did not fit into the time for connecting."""
    return _unsent(f"Connecting to {host} took too long.", FailureKind.TIMEOUT)


def unsafe_tls(host: str) -> UpstreamError:
    """The certificate or the handshake is not to be trusted."""
    return _unsent(f"No safe TLS connection to {host}.", again=False)


def unresolved(host: str) -> UpstreamError:
    """There is no address for the name, or nobody who knows one."""
    return _unsent(f"The name {host} could not be resolved.")


def unreachable(host: str) -> UpstreamError:
    """No address of the host takes connections."""
    return _unsent(f"No connection to {host}.")


def invalid_request(host: str) -> UpstreamError:
    """Our own request cannot be written as HTTP."""
    return _unsent(f"The request to {host} is not valid HTTP.", again=False)


def not_http(host: str) -> UpstreamError:
    """What came back is no HTTP head, or one beyond the limits."""
    return UpstreamError(FailureKind.MALFORMED, f"{host} did not answer in readable HTTP.")


def no_answer(host: str, *, sent: bool = True) -> UpstreamError:
    """The connection ended before a whole head had come."""
    message = f"{host} closed the connection without an answer."
    return UpstreamError(FailureKind.CONNECTION, message, sent=sent)


def broke_off(why: str) -> UpstreamError:
    """The body ended before its end, or its framing is broken."""
    return UpstreamError(FailureKind.CONNECTION, f"The provider's answer broke off ({why}).")


def too_large(limit_bytes: int, *, status: int) -> UpstreamError:
    """The body is beyond what the reader takes."""
    message = f"The provider's answer is larger than {limit_bytes} bytes."
    return UpstreamError(FailureKind.MALFORMED, message, status=status)


def _unsent(
    message: str, kind: FailureKind = FailureKind.CONNECTION, *, again: bool = True
) -> UpstreamError:
    return UpstreamError(kind, message, sent=False, again=again)
