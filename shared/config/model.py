"""The config file as values. Field names are the file's keys; defaults are the product's.

Money in USD stays text here (`"2.5"`) so that no float ever touches it. What a value may be is
part of its type: bounds as msgspec constraints, text formats by name in `extra`. The loader obeys
both, and so do `redacted` and every repr, which hide what is marked secret.
"""

import functools
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta
from typing_extensions import override

Seconds = Annotated[float, Meta(gt=0)]
Positive = Annotated[int, Meta(ge=1)]
Percent = Annotated[int, Meta(ge=1, le=1000)]
Usd = Annotated[str, Meta(extra={"format": "usd"})]
Url = Annotated[str, Meta(extra={"format": "url"})]
Network = Annotated[str, Meta(extra={"format": "network"})]
Timezone = Annotated[str, Meta(extra={"format": "timezone"})]
Date = Annotated[str, Meta(extra={"format": "date"})]
SecretText = Annotated[str, Meta(extra={"secret": True})]
SecretUrl = Annotated[str, Meta(extra={"format": "url", "secret": True})]
Key = Annotated[str, Meta(extra={"format": "key", "secret": True})]
WebhookSecret = Annotated[str, Meta(extra={"format": "webhook_secret", "secret": True})]
Headers = Annotated[dict[str, str], Meta(extra={"format": "headers", "secret": True})]

Strategy = Literal[
    "priority", "weighted", "round_robin", "least_latency", "least_cost", "least_busy"
]
Window = Literal["hour", "day", "week", "month", "30d"]
JobClass = Literal["interactive", "default", "batch"]
Scope = Literal["provider_models"]
"""What a key may do beyond the routes: address `provider/model` directly."""
FailureName = Literal[
    "rate_limited",
    "overloaded",
    "server_error",
    "timeout",
    "connection",
    "malformed",
    "credential",
    "context_length",
    "content_filter",
]
"""The kinds of failure that `on_failure` can send elsewhere."""
CLASS_WEIGHTS: dict[JobClass, int] = {"interactive": 8, "default": 3, "batch": 1}
"""The share of each job class; one that the file leaves out keeps its own."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping in the file; unknown keys are mistakes."""

    @override
    def __repr__(self) -> str:
        hidden = secret_fields(type(self))
        shown = (
            f"{name}={HIDDEN!r}" if name in hidden and value else f"{name}={value!r}"
            for name in self.__struct_fields__
            for value in (getattr(self, name),)
        )
        return f"{type(self).__name__}({', '.join(shown)})"


HIDDEN = "[hidden]"
"""Stands where a secret is left out."""


@functools.cache
def secret_fields(section: type[Section]) -> frozenset[str]:
    """Return the fields of a section that are never shown."""
    hints = get_type_hints(section, include_extras=True)
    return frozenset(name for name, hint in hints.items() if _is_secret(hint))


def _is_secret(hint: object) -> bool:
    if get_origin(hint) is Annotated:
        marks = (mark.extra or {} for mark in get_args(hint)[1:] if isinstance(mark, Meta))
        return any(mark.get("secret") for mark in marks)
    return any(_is_secret(part) for part in get_args(hint))


class NamedKey(Section, frozen=True, kw_only=True):
    """One of several credentials of a provider."""

    name: str
    key: Key
    weight: Positive = 1


class ProviderConfig(Section, frozen=True, kw_only=True):
    """A configured vendor account or server."""

    kind: str
    api_key: Key | None = None
    api_keys: tuple[NamedKey, ...] = ()
    base_url: Url | None = None
    optional: bool = False
    region: str | None = None
    project: str | None = None
    location: str | None = None
    api_version: str | None = None
    headers: Headers = {}
    params: dict[str, object] = {}


class Limits(Section, frozen=True, kw_only=True):
    """Rates and concurrency; None is unlimited."""

    rpm: Positive | None = None
    tpm: Positive | None = None
    rpd: Positive | None = None
    tpd: Positive | None = None
    concurrency: Positive | None = None


class Budget(Section, frozen=True, kw_only=True):
    """Money per window."""

    window: Window
    limit_usd: Usd
    action: Literal["reject", "warn"] = "reject"
    thresholds: tuple[Percent, ...] = (50, 80, 100)
    timezone: Timezone = "UTC"
    starts_on: Date | None = None


class BudgetMatch(Section, frozen=True, kw_only=True):
    """Whom a top-level budget binds; the set fields must all match."""

    tenant: str | None = None
    key: str | None = None
    user: str | None = None
    model: str | None = None
    provider: str | None = None
    tag: str | None = None


class MatchedBudget(Budget, frozen=True, kw_only=True):
    """A top-level budget with its match."""

    match: BudgetMatch


class Price(Section, frozen=True, kw_only=True):
    """USD per million tokens, decimals as text; None falls back to `input` or `output`."""

    input_per_mtok: Usd
    output_per_mtok: Usd
    cache_read_per_mtok: Usd | None = None
    cache_write_per_mtok: Usd | None = None


class TargetConfig(Section, frozen=True, kw_only=True):
    """One provider model that may serve a route."""

    provider: str
    model: str
    weight: Positive = 1
    limits: Limits | None = None
    price: Price | None = None
    credential: str | None = None
    params: dict[str, object] = {}
    headers: Headers = {}
    capabilities: dict[str, bool] = {}


class Timeouts(Section, frozen=True, kw_only=True):
    """Lengths in seconds; DESIGN part 6 says what each spans."""

    connect_s: Seconds = 5.0
    first_token_s: Seconds = 60.0
    idle_s: Seconds = 30.0
    attempt_s: Seconds = 600.0
    total_s: Seconds = 600.0


class Retry(Section, frozen=True, kw_only=True):
    """Calls to one target, the first included, and the jittered wait between them."""

    max_attempts: Positive = 2
    base_s: Annotated[float, Meta(ge=0)] = 0.25
    max_s: Annotated[float, Meta(ge=0)] = 8.0


class Breaker(Section, frozen=True, kw_only=True):
    """When a target is left alone."""

    failures: Positive = 5
    window_s: Seconds = 30.0
    open_s: Seconds = 15.0
    half_open_probes: Positive = 1


class RouteConfig(Section, frozen=True, kw_only=True):
    """A public model name and what may serve it."""

    model: str
    aliases: tuple[str, ...] = ()
    strategy: Strategy = "priority"
    targets: tuple[TargetConfig, ...]
    fallbacks: tuple[str, ...] = ()
    on_failure: dict[FailureName, tuple[str, ...]] = {}
    timeouts: Timeouts = Timeouts()
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    stream_recovery: Literal["off", "continue", "restart"] = "off"
    price: Price | None = None
    limits: Limits | None = None
    budgets: tuple[Budget, ...] = ()
    unsupported: Literal["drop", "error"] = "drop"
    unknown_price: Literal["null", "deny", "estimate"] = "null"
    hold_output_tokens: Positive = 4096


class KeyConfig(Section, frozen=True, kw_only=True):
    """A tenant's API key given in the file."""

    name: str
    key: Key
    scopes: tuple[Scope, ...] = ()
    limits: Limits | None = None
    budgets: tuple[Budget, ...] = ()


class UserTemplate(Section, frozen=True, kw_only=True):
    """Limits and budgets of each user of a tenant."""

    limits: Limits | None = None
    budgets: tuple[Budget, ...] = ()


class TenantConfig(Section, frozen=True, kw_only=True):
    """Who pays."""

    id: str
    keys: tuple[KeyConfig, ...] = ()
    limits: Limits | None = None
    budgets: tuple[Budget, ...] = ()
    users: UserTemplate | None = None
    webhook_secret: WebhookSecret | None = None


class CacheConfig(Section, frozen=True, kw_only=True):
    """The response cache."""

    enabled: bool = False
    ttl_s: Seconds = 3600.0
    max_entries: Positive = 10_000


class QueueConfig(Section, frozen=True, kw_only=True):
    """Jobs: shares of the classes, lease lengths, polling, slots of one worker process."""

    max_queued_per_tenant: Positive = 100_000
    classes: dict[JobClass, Positive] = msgspec.field(default_factory=lambda: dict(CLASS_WEIGHTS))
    lease_s: Seconds = 30.0
    heartbeat_s: Seconds = 10.0
    poll_s: Seconds = 1.0


class RedisDownPolicy(Section, frozen=True, kw_only=True):
    """What happens to limits and cache without Redis."""

    limits: Literal["local", "deny", "open"] = "local"
    cache: Literal["bypass"] = "bypass"


class DatabaseDownPolicy(Section, frozen=True, kw_only=True):
    """What happens to authentication and job submission without the database."""

    auth: Literal["cached", "deny"] = "cached"
    jobs: Literal["refuse"] = "refuse"


class Policies(Section, frozen=True, kw_only=True):
    """Degraded modes."""

    redis_down: RedisDownPolicy = RedisDownPolicy()
    database_down: DatabaseDownPolicy = DatabaseDownPolicy()


class LoggingConfig(Section, frozen=True, kw_only=True):
    """Request log lines."""

    requests: bool = True
    bodies: bool = False
    sample_rate: Annotated[float, Meta(ge=0, le=1)] = 1.0
    redact_pii: bool = True


class Tls(Section, frozen=True, kw_only=True):
    """Certificate and key files for serving HTTPS directly."""

    cert_file: str
    key_file: str


class ServerConfig(Section, frozen=True, kw_only=True):
    """The HTTP edge."""

    max_body_mb: Positive = 20
    cors: tuple[str, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()
    tls: Tls | None = None


class WebhooksConfig(Section, frozen=True, kw_only=True):
    """Networks (CIDR) that webhooks may reach although they are not global."""

    allow_networks: tuple[Network, ...] = ()


class Alerts(Section, frozen=True, kw_only=True):
    """Where budget alerts go."""

    webhook: SecretUrl | None = None
    slack_url: SecretUrl | None = None
    smtp: SecretText | None = None
    sns_topic_arn: str | None = None


class Config(Section, frozen=True, kw_only=True):
    """The whole file, checked; references between sections hold."""

    version: Literal[1] = 1
    providers: dict[str, ProviderConfig] = {}
    routes: tuple[RouteConfig, ...] = ()
    tenants: tuple[TenantConfig, ...] = ()
    budgets: tuple[MatchedBudget, ...] = ()
    cache: CacheConfig = CacheConfig()
    queue: QueueConfig = QueueConfig()
    policies: Policies = Policies()
    logging: LoggingConfig = LoggingConfig()
    server: ServerConfig = ServerConfig()
    webhooks: WebhooksConfig = WebhooksConfig()
    alerts: Alerts = Alerts()
    defaults: dict[str, object] = {}
    """Route keys given once for all routes; the loader has applied them, so this is empty."""
    disabled: tuple[str, ...] = ()
    """Optional providers without a key; filled by the loader, not a key of the file."""
