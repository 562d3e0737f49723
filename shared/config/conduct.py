"""The sections of the file on how the processes behave: server, logs, policies, cache, queue."""

# ruff: noqa: RUF012 (msgspec copies an empty default for every Struct)

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.config.section import (
    Network,
    Positive,
    Seconds,
    SecretUrl,
    Section,
    SmtpUrl,
    SnsTopic,
    Timezone,
    Usd,
    WebhookSecret,
)

SpendWindow = Literal["hour", "day", "week", "month"]
JobClass = Literal["interactive", "default", "batch"]
CLASS_WEIGHTS: dict[JobClass, int] = {"interactive": 8, "default": 3, "batch": 1}
"""The share of each job class; one that the file leaves out keeps its own."""


class CacheConfig(Section, frozen=True, kw_only=True):
    """The response cache."""

    enabled: bool = False
    """Whether answers are kept."""
    ttl_s: Seconds = 3600.0
    """How long."""
    max_entries: Positive = 10_000
    """How many; in memory, of each process."""
    max_mb: Positive = 64
    """How much they may take; in memory, of each process."""
    max_entry_kb: Positive = 1024
    """The largest answer that is kept."""
    requests: Literal["deterministic", "all"] = "deterministic"
    """Which are looked up: those whose answer hardly changes (`temperature` 0, or a `seed`), or
    `all`."""
    across_tenants: bool = False
    """Whether a tenant may be given what another has asked."""


class QueueConfig(Section, frozen=True, kw_only=True):
    """Jobs: shares of the classes, lease lengths, polling, slots of one worker process."""

    max_queued_per_tenant: Positive = 100_000
    """Open jobs of one tenant, lines of batches not counted; beyond it `queue_full`."""
    max_queued: dict[JobClass, Positive] = {}
    """Jobs of a class that wait for a worker, of all tenants together; beyond it `queue_full`. A
    class left out has no bound."""
    keep_s: Seconds = 2_592_000.0
    """How long a job or batch that has ended can be read; 30 days. The ledger stays."""
    classes: dict[JobClass, Positive] = msgspec.field(default_factory=lambda: dict(CLASS_WEIGHTS))
    """The share of each class when all have jobs waiting. A class left out keeps its default."""
    max_running_per_tenant: Positive | None = None
    """Jobs of one tenant that may run at once, over all workers, counted from their rows. The
    others wait, and no worker's slot waits with them."""
    lease_s: Seconds = 30.0
    """How long a worker owns a job without renewing. A dead worker's jobs start again after it."""
    heartbeat_s: Seconds = 10.0
    """How often leases are renewed; less than `lease_s`."""
    poll_s: Seconds = 1.0
    """How often a worker with free slots looks for jobs by itself."""


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
    max_in_flight: Positive = 10_000
    """Inference calls that one process has open at a time; beyond it `overloaded`. Calls that say
    `X-Sluiceway-Priority: default` are refused at 85 % of it, `batch` at 60 %; open files bound it,
    too."""
    max_lag_s: Seconds = 1.0
    """How late its event loop may be; beyond it calls are `overloaded`, too: `default` at 60 % of
    it, `batch` at 30 %."""
    gather_s: Annotated[float, Meta(ge=0, le=0.1)] = 0.016
    """Streams that bring two pieces and more in this time: how long what comes is gathered before
    it goes on to the caller, after the first pieces; at most 0.1, far less than a stream may pause.
    0: each goes on by itself, at more CPU."""
    cors: tuple[str, ...] = ()
    """Origins that browsers may call from."""
    trusted_proxies: tuple[Network, ...] = ()
    """Networks whose `X-Forwarded-For` is believed."""
    tls: Tls | None = None
    """Serve HTTPS directly."""


class WebhooksConfig(Section, frozen=True, kw_only=True):
    """Where webhooks may go that not everybody may send to."""

    allow_networks: tuple[Network, ...] = ()
    """Networks that are not public and may be reached all the same, such as `10.20.0.0/16`."""
    allow_topics: tuple[str, ...] = ()
    """SNS topics that endpoints may name: ARNs, or their beginnings with `*` behind. They are
    published to with the gateway's own rights."""


class FilesConfig(Section, frozen=True, kw_only=True):
    """Files that callers store, and those at URLs, fetched for providers that cannot do it."""

    enabled: bool = True
    """Whether any is fetched. Without it such requests are refused where the provider cannot."""
    max_mb: Positive = 20
    """The size of all files of one request together."""
    max_count: Positive = 20
    """How many URLs one request may name."""
    max_upload_mb: Positive = 512
    """The largest file that callers may store; 200 where it is the input of a batch.
    `server.max_body_mb` does not count for files."""
    timeout_s: Seconds = 10.0
    """For each of them, redirects included."""
    allow_networks: tuple[Network, ...] = ()
    """Networks that are not public and may be reached all the same, such as `10.20.0.0/16`."""


class LedgerConfig(Section, frozen=True, kw_only=True):
    """The record of every call to a provider."""

    enabled: bool = True
    """Whether it is kept. Without it there are no costs in usage, no budgets and no bills; answers
    still say their cost."""


class Billing(Section, frozen=True, kw_only=True):
    """How spending is summed up: hours of UTC, and days, weeks and months of a time zone."""

    timezone: Timezone = "UTC"
    """Whose midnights end days, weeks and months. After a change the next ones go on where the last
    one ended."""
    tell: tuple[SpendWindow, ...] = ("day", "month")
    """Which closed windows are told as `usage.window_closed`: of `hour`, `day`, `week`, `month`."""
    keep_days: Annotated[int, Meta(ge=62)] = 400
    """How long closed hours, ended windows of budgets, what was told of them and expired raises are
    kept. Days, weeks and months stay, and so does the ledger."""


class Alerts(Section, frozen=True, kw_only=True):
    """Where alerts about money go, beside the endpoints of the tenant that they concern."""

    webhook: SecretUrl | None = None
    """A URL that gets signed events; it may be a private one."""
    webhook_secret: WebhookSecret | None = None
    """Signs them: `whsec_` and the base64 of 24 to 64 bytes. None: each tenant's own secret."""
    slack_url: SecretUrl | None = None
    """An incoming webhook of Slack."""
    smtp: SmtpUrl | None = None
    """A mail server with addresses:
    `smtp://user:password@host:587?from=gateway@example.com&to=ops@example.com`."""
    sns_topic_arn: SnsTopic | None = None
    """A topic of Amazon SNS."""
    spike_factor: Annotated[float, Meta(gt=1)] | None = 3.0
    """How many usual hours of the last week one hour of a tenant may cost before that is told.
    None: nothing is told."""
    spike_floor_usd: Usd = "1"
    """An hour that costs no more is never told."""
