"""What an endpoint may be: where it leads, and which events it may hear of."""

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from shared.errors import InvalidRequest
from shared.webhooks.egress import Network, refusal
from shared.webhooks.event import EVENT_TYPES, OPERATOR, OPERATOR_EVENTS
from shared.webhooks.urls import is_topic, topic_mistake, url_mistake

LONGEST_NAME = 256
MOST_ENDPOINTS = 100
"""Of one tenant. Each event goes to all that ask for it, in one transaction."""

MOST_AT_ONCE = 10
"""Deliveries under way to one endpoint."""


def types_for(tenant_id: str) -> tuple[str, ...]:
    """Return the event types that endpoints of a tenant may ask for, in order."""
    return tuple(sorted(EVENT_TYPES if tenant_id == OPERATOR else EVENT_TYPES - OPERATOR_EVENTS))


def checked_types(
    tenant_id: str, types: Sequence[str], *, param: str = "event_types"
) -> tuple[str, ...]:
    """Return the event types in order, each once; `param` is what the caller calls them.

    Raises:
        InvalidRequest: there are none, or one is not for this tenant.
    """
    known = types_for(tenant_id)
    for one in types:
        if one not in known:
            raise InvalidRequest(
                f"There is no event type {one[:100]!r}; see GET /v1/webhook_event_types.",
                param=param,
            )
    if not types:
        raise InvalidRequest(f"{param} must name at least one.", param=param)
    return tuple(sorted(set(types)))


def checked_url(url: str, networks: Sequence[Network], topics: Sequence[str]) -> str:
    """Return the URL or the ARN of an SNS topic.

    A name is looked up at each attempt, not now; an address is refused at once.

    Raises:
        InvalidRequest: its form is wrong, or it leads where nothing is sent.
    """
    if is_topic(url):
        mistake = topic_mistake(url, topics)
    else:
        mistake = url_mistake(url) or address_mistake(url, networks)
    if mistake is not None:
        raise InvalidRequest(f"url {mistake}.", param="url")
    return url


def address_mistake(url: str, networks: Sequence[Network]) -> str | None:
    """Say why nothing is sent to the address in a URL; None for a name, and when it may be."""
    try:
        host = urlsplit(url).hostname or ""
        ipaddress.ip_address(host)
    except ValueError:
        return None
    reason = refusal(host, networks)
    return None if reason is None else f"leads to {host}, which {reason}"
