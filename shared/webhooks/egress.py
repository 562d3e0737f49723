"""Where an address that a caller named may lead, decided on the resolved address only.

So for webhooks, and for files that are fetched by URL.

Names and odd spellings (`0x7f000001`, `127.1`) prove nothing; what is dialled does. Python's own
`is_global` is not the test either: it calls multicast, NAT64 and 6to4 forms of loopback global.
"""

import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DENIED_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier NAT: neither private nor global to Python
        "127.0.0.0/8",
        "169.254.0.0/16",  # link local, and the clouds' metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_DENIED_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "::/96",  # unspecified, loopback, and the old IPv4-compatible forms
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",  # Teredo among others: leads to an IPv4 address inside it
        "2001:db8::/32",
        "2002::/16",  # 6to4, given up in 2015: likewise
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Return the networks of CIDR texts; host bits may be set.

    Raises:
        ValueError: one is not a network.
    """
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def refusal(address: str, allowed: Sequence[Network] = ()) -> str | None:
    """Say why this address must not be reached; None when it may.

    IPv4-mapped and NAT64 forms are judged by the address inside; 6to4 and Teredo, which hide one
    too, are refused. `allowed` networks are fine although they are not global.
    """
    try:
        outer = ipaddress.ip_address(address)
    except ValueError:
        return "is not an IP address"
    if in_networks(address, allowed):
        return None
    if isinstance(outer, ipaddress.IPv6Address) and outer.ipv4_mapped is not None:
        return _denied(outer.ipv4_mapped)  # a spelling of that address, not a way to it
    if outer in _NAT64:
        return _denied(ipaddress.IPv4Address(int(outer) & 0xFFFFFFFF))
    return _denied(outer)


def in_networks(address: str, allowed: Sequence[Network]) -> bool:
    """Return whether the address, or the IPv4 address it maps, lies in one of the networks."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found.version == network.version and found in network for network in allowed)


def _denied(address: Address) -> str | None:
    if address.is_multicast:
        return "is a multicast address"
    if isinstance(address, ipaddress.IPv4Address):
        listed = any(address in network for network in _DENIED_V4)
    else:
        listed = any(address in network for network in _DENIED_V6)
    if listed or not address.is_global:
        return "is not a public address"
    return None
