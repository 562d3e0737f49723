"""Joining a configured base URL with an endpoint's path, without doubling `/v1`."""

from functools import lru_cache
from urllib.parse import urlsplit


@lru_cache(maxsize=256)
def endpoint_url(base_url: str, endpoint: str) -> str:
    """Return the URL of a served endpoint.

    The base is what stands before `/chat/completions`; one without any path gets `/v1`, because
    people write `http://gpu:8000` and mean it.
    """
    base = base_url.rstrip("/")
    if not urlsplit(base).path:
        base += "/v1"
    return base + endpoint.removeprefix("/v1")


def with_v1(host_root: str) -> str:
    """Return the root of an OpenAI-compatible surface below a host's root (Ollama's)."""
    root = host_root.rstrip("/")
    return root if root.endswith("/v1") else f"{root}/v1"
