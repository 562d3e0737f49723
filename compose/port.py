"""Is the port ours to take? Asked before anything starts, so that the answer is a sentence."""

import errno
import socket

from compose.folder import CannotStart


def free_port(host: str, port: int) -> int:
    """Return the port when it can be listened on; for 0 one that the system chooses.

    Raises:
        CannotStart: it is taken or not ours; the message names another one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            raise CannotStart(_why(host, port, error)) from error
        found: int = probe.getsockname()[1]
        return found


def _why(host: str, port: int, error: OSError) -> str:
    other = port + 1 if port < 65535 else 8080  # noqa: PLR2004 (the last port there is)
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} is taken by another program;"
            f" stop it, or choose another port: sluiceway dev --port {other}"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights; choose a higher one: sluiceway dev --port 8080"
    return f"cannot listen on {host}:{port}: {error.strerror or error}"
