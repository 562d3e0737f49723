"""The headers of a call to a provider: ours, who asks, and last the operator's own."""

from collections.abc import Mapping

from shared.config.model import ProviderConfig
from shared.providers.target import Target

USER_AGENT = "sluiceway"
EVENTS = "text/event-stream"


def call_headers(
    provider: ProviderConfig,
    target: Target,
    own: Mapping[str, str],
    *,
    accept: str = "application/json",
) -> dict[str, str]:
    """Return the headers of a JSON request; none of the caller's goes on.

    `own` are the adapter's, such as what shows who asks; names in lower case.
    """
    headers = {
        "content-type": "application/json",
        "accept": accept,
        # Unpacking would need a limit of its own: 306 KB of gzip can hold 300 MB.
        "accept-encoding": "identity",
        "user-agent": USER_AGENT,
        **own,
    }
    for operators in (provider.headers, target.headers):
        if operators:
            headers.update({name.lower(): value for name, value in operators.items()})
    return headers


def bearer(secret: str | None) -> dict[str, str]:
    """Return the header that shows a key, none where there is none."""
    return {"authorization": f"Bearer {secret}"} if secret else {}
