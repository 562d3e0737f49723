"""Which calls the cache may answer, and under which name their answers are kept."""

from collections.abc import Mapping
from hashlib import blake2b

import msgspec

from shared.cache.control import CacheControl
from shared.cache.entry import Address
from shared.cache.question import MOST_BYTES, UNREADABLE, Fields, digest_of, fields_of
from shared.config.conduct import CacheConfig
from shared.gateway.catalog import Catalog
from shared.identity import Principal
from shared.providers.request import InferenceRequest
from shared.routing.route import Route

RESPONSES = "/v1/responses"

SETTLED = frozenset({"/v1/embeddings", "/v1/moderations", "/v1/rerank"})
"""What is answered here is the same each time."""

_IDLE = frozenset({
    "stream", "stream_options", "user", "safety_identifier", "metadata", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention",
})  # fmt: skip
"""Fields that say nothing about the answer."""

_MEANINGLESS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(SETTLED, _IDLE | {"model"}),
    "/v1/chat/completions": _IDLE | {"model"},
    "/v1/completions": _IDLE | {"model"},
    "/v1/messages": _IDLE | {"model"},
    # A response repeats most of its question.
    RESPONSES: frozenset({"stream", "stream_options", "model"}),
}
"""What is left out of the name of an answer, by endpoint; others are not cached.

The model is in it as the route that its name leads to.
"""

STREAMED = frozenset({"/v1/chat/completions", "/v1/messages"})
"""Where a kept answer can be told as a stream, and a stream kept."""

_OUTSIDE = frozenset({"web_search_options", "mcp_servers", "container"})
"""Fields by which an answer depends on more than the question."""

_TELLING = _OUTSIDE | {"store", "audio", "tools"}
"""Without any of them nothing speaks against it, except where responses are kept unasked."""

MOST_MARKS = 1_000


class Names:
    """Names answers; one per config."""

    def __init__(self, rules: CacheConfig, catalog: Catalog) -> None:
        self._all = rules.requests == "all"
        self._across_tenants = rules.across_tenants
        self._catalog = catalog
        self._marks: dict[str, str] = {}

    def address_of(
        self, principal: Principal, route: Route, request: InferenceRequest, control: CacheControl
    ) -> Address | None:
        """Return where the answer is kept, None for a call that is none of the cache's business."""
        endpoint, head = request.endpoint, request.head
        meaningless = _MEANINGLESS.get(endpoint)
        if meaningless is None or control.no_store:
            return None
        # The config, or the caller by naming an age, may want more than is settled.
        opted = self._all or control.max_age_s is not None
        if not opted and head.seed is None and head.temperature != 0 and endpoint not in SETTLED:
            return None
        if head.stream and endpoint not in STREAMED:
            return None
        if len(request.raw) > MOST_BYTES:
            return None
        try:
            fields = fields_of(request.raw)
        except UNREADABLE:
            return None
        if endpoint == RESPONSES or not _TELLING.isdisjoint(fields):
            if _has_effects(endpoint, fields):
                return None
            if not opted and _looks_outside(fields):
                return None
        tenant = "" if self._across_tenants else principal.tenant_id
        model = route.model
        mark = self._marks.get(model) or self._mark(route)
        # Without names, which a call of so many takes a while to match.
        digest = digest_of(fields, f"{tenant}{endpoint}", mark, request.headers, meaningless)
        return Address(tenant, model, digest)

    def _mark(self, route: Route) -> str:
        """Return what stands for the targets of a route: an answer of others is another."""
        if len(self._marks) >= MOST_MARKS:
            self._marks.clear()
        providers = [
            self._catalog.providers[group[0].target.provider].config for group in route.choices
        ]
        where = [(one.kind, one.base_url, one.params) for one in providers]
        what = [[choice.target for choice in group] for group in route.choices]
        said = msgspec.json.encode((route.model, where, what), order="deterministic")
        mark = self._marks[route.model] = blake2b(said, digest_size=16).hexdigest()
        return mark


def _has_effects(endpoint: str, fields: Fields) -> bool:
    """Return whether asking does more than to get an answer, or the answer is more than text."""
    if endpoint == RESPONSES:
        return fields.get("store") is not False or bool(fields.get("background"))
    return bool(fields.get("store") or fields.get("audio"))


def _looks_outside(fields: Fields) -> bool:
    """Return whether the provider itself searches, runs or fetches something."""
    if any(fields.get(name) for name in _OUTSIDE):
        return True
    tools = fields.get("tools")
    return isinstance(tools, list) and any(
        isinstance(tool, dict) and tool.get("type", "function") not in {"function", "custom"}
        for tool in tools
    )
