"""The egress guard: aiohttp connections that only lead where `egress` allows.

It sits where addresses are resolved and where sockets are made, so the address that was checked
is the one that is dialled. A URL check alone could be fooled by a second look-up.
"""

import socket
from collections.abc import Sequence

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from typing_extensions import override

from shared.webhooks.egress import Network, in_networks, refusal


class EgressRefused(OSError):
    """The address must not be reached; an OSError, so that aiohttp treats it as no connection."""


class GuardedResolver(AbstractResolver):
    """Resolves a name and refuses it unless every answer may be reached."""

    def __init__(
        self, allowed: Sequence[Network], *, names: AbstractResolver | None = None
    ) -> None:
        self._allowed = tuple(allowed)
        self._names = names or ThreadedResolver()

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of `host`.

        Raises:
            EgressRefused: one of them must not be reached; then none of them is.
            OSError: there is no such name.
        """
        found = await self._names.resolve(host, port, family)
        for answer in found:
            _check(answer["host"], self._allowed)
        return found

    @override
    async def close(self) -> None:
        """Let go of the resolver beneath."""
        await self._names.close()


def guarded_connector(
    allowed: Sequence[Network], *, encrypted: bool, names: AbstractResolver | None = None
) -> aiohttp.TCPConnector:
    """Return a connector for one delivery.

    Without encryption (`http:`) only `allowed` networks are reached: what goes through the public
    network is encrypted. Connections are not kept, so each attempt is checked anew. `names`
    replaces the system's resolver in tests.
    """
    networks = tuple(allowed)

    def open_socket(info: tuple[object, ...]) -> socket.socket:
        family, kind, protocol, _, where = info
        address = str(where[0])  # type: ignore[index]
        _check(address, networks)
        if not encrypted and not in_networks(address, networks):
            raise EgressRefused(f"{address} is reached by https only")
        return socket.socket(family=family, type=kind, proto=protocol)  # type: ignore[arg-type]

    return aiohttp.TCPConnector(
        resolver=GuardedResolver(networks, names=names),
        socket_factory=open_socket,
        use_dns_cache=False,
        force_close=True,
    )


def _check(address: str, allowed: Sequence[Network]) -> None:
    reason = refusal(address, allowed)
    if reason is not None:
        raise EgressRefused(f"{address} {reason}")


def refused(error: BaseException | None) -> EgressRefused | None:
    """Return the refusal among the causes of an error, None when it failed for another reason."""
    while error is not None:
        if isinstance(error, EgressRefused):
            return error
        beneath = getattr(error, "os_error", None) or error.__cause__ or error.__context__
        error = beneath if beneath is not error else None
    return None
