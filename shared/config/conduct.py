"""The sections of the config file on how the processes behave: server, logs, policies, cache."""

from typing import Annotated, Literal

from msgspec import Meta

from shared.config.section import Network, Positive, Seconds, SecretText, SecretUrl, Section


class CacheConfig(Section, frozen=True, kw_only=True):
    """The response cache."""

    enabled: bool = False
    """Whether answers are kept."""
    ttl_s: Seconds = 3600.0
    """How long."""
    max_entries: Positive = 10_000
    """How many."""


class RedisDownPolicy(Section, frozen=True, kw_only=True):
    """What happens to limits and cache without Redis."""

    limits: Literal["local", "deny", "open"] = "local"
    """`local` counts per process, `deny` refuses, `open` lets through."""
    cache: Literal["bypass"] = "bypass"
    """`bypass`: nothing is looked up."""


class DatabaseDownPolicy(Section, frozen=True, kw_only=True):
    """What happens to authentication and job submission without the database."""

    auth: Literal["cached", "deny"] = "cached"
    """`cached` takes keys known to the process, `deny` none once it is away for 10 s."""
    jobs: Literal["refuse"] = "refuse"
    """`refuse`: a job that cannot be stored is not accepted."""


class Policies(Section, frozen=True, kw_only=True):
    """Degraded modes."""

    redis_down: RedisDownPolicy = RedisDownPolicy()
    """Without Redis."""
    database_down: DatabaseDownPolicy = DatabaseDownPolicy()
    """Without the database."""


class LoggingConfig(Section, frozen=True, kw_only=True):
    """Request log lines."""

    requests: bool = True
    """One line for each request."""
    bodies: bool = False
    """Requests and answers in it."""
    sample_rate: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """The share of requests that are logged, 0 to 1."""
    redact_pii: bool = True
    """Hide personal data in bodies."""


class Tls(Section, frozen=True, kw_only=True):
    """Certificate and key files for serving HTTPS directly."""

    cert_file: str
    """Path of the certificate chain."""
    key_file: str
    """Path of its key."""


class ServerConfig(Section, frozen=True, kw_only=True):
    """The HTTP edge."""

    max_body_mb: Positive = 20
    """The largest request body; beyond it `request_too_large`."""
    cors: tuple[str, ...] = ()
    """Origins that browsers may call from."""
    trusted_proxies: tuple[Network, ...] = ()
    """Networks whose `X-Forwarded-For` is believed."""
    tls: Tls | None = None
    """Serve HTTPS directly."""


class WebhooksConfig(Section, frozen=True, kw_only=True):
    """Networks (CIDR) that webhooks may reach although they are not global."""

    allow_networks: tuple[Network, ...] = ()
    """Networks that are not public and may be reached all the same, such as `10.20.0.0/16`."""


class Alerts(Section, frozen=True, kw_only=True):
    """Where budget alerts go."""

    webhook: SecretUrl | None = None
    """A URL that gets a signed event."""
    slack_url: SecretUrl | None = None
    """An incoming webhook of Slack."""
    smtp: SecretText | None = None
    """A mail server."""
    sns_topic_arn: str | None = None
    """A topic of Amazon SNS."""
