"""The config file as values. Field names are the file's keys; defaults are the product's.

Money in USD stays text here (`"2.5"`) so that no float ever touches it. The text below a field says
what it means: to readers here, in editors (`sluiceway config-schema`) and on the settings page.
"""

# ruff: noqa: RUF012 (msgspec copies an empty default for every Struct)

from typing import Annotated, Literal

from msgspec import Meta

from shared.config.conduct import (
    Alerts,
    Billing,
    CacheConfig,
    FilesConfig,
    LedgerConfig,
    LoggingConfig,
    Policies,
    QueueConfig,
    ServerConfig,
    WebhooksConfig,
)
from shared.config.price import Price, UnknownPrice
from shared.config.rules import RouteRule
from shared.config.section import (
    Date,
    Factor,
    FailureName,
    Headers,
    Key,
    ModelName,
    Percent,
    Positive,
    ProviderName,
    Seconds,
    Section,
    TenantId,
    Timezone,
    Url,
    Usd,
    WebhookSecret,
)

Strategy = Literal[
    "priority", "weighted", "round_robin", "least_latency", "least_cost", "least_busy"
]
Sticky = Literal["off", "session", "prompt_cache"]
StreamRecovery = Literal["off", "continue", "restart"]
Window = Literal["hour", "day", "week", "month", "30d"]
Scope = Literal["provider_models"]
"""What a key may do beyond the routes: address `provider/model` directly."""


class NamedKey(Section, frozen=True, kw_only=True):
    """One of several credentials of a provider."""

    name: str
    """What targets call this key."""
    key: Key
    """The key."""
    weight: Positive = 1
    """Its share of the calls, 1 or more."""


class ProviderConfig(Section, frozen=True, kw_only=True):
    """A configured vendor account or server."""

    kind: str
    """What it is: a vendor or a wire format. `sluiceway check-config` lists the known kinds when it
    meets an unknown one."""
    api_key: Key | None = None
    """Its key. Name it `default` where a target asks for a `credential`."""
    api_keys: tuple[NamedKey, ...] = ()
    """Several keys instead of `api_key`, used in turn by weight."""
    base_url: Url | None = None
    """Where it answers. For OpenAI's dialect: what stands before `/chat/completions`. None is the
    vendor's own."""
    optional: bool = False
    """With an unset `${VAR}` the provider is left out, with the targets and routes that need it,
    and the start says so."""
    region: str | None = None
    """Cloud region."""
    project: str | None = None
    """Google Cloud project. With it a `gemini` is called on Vertex AI, by Google's application
    default credentials where it has no key."""
    location: str | None = None
    """Google Cloud location, such as `europe-west4`. None is `global`."""
    profile: str | None = None
    """Profile of the AWS configuration files, for `bedrock`. None: the credential chain's own."""
    api_version: str | None = None
    """Version of the vendor's API, where it wants one."""
    headers: Headers = {}
    """Headers added to every call. Never shown."""
    params: dict[str, object] = {}
    """Body fields added to every call that does not set them."""
    price_factor: Factor = "1"
    """What all of its prices are multiplied with: a discount such as 0.9, or a margin."""
    regional_factor: Factor = "1"
    """What its prices are multiplied with for the region, searches and fees of a call excepted."""


class Limits(Section, frozen=True, kw_only=True):
    """Rates and concurrency; None is unlimited."""

    rpm: Positive | None = None
    """Requests a minute."""
    tpm: Positive | None = None
    """Tokens a minute."""
    rpd: Positive | None = None
    """Requests a day."""
    tpd: Positive | None = None
    """Tokens a day."""
    concurrency: Positive | None = None
    """Calls at the same time."""


class Budget(Section, frozen=True, kw_only=True):
    """Money per window."""

    window: Window
    """`hour`, `day`, `week`, `month` or `30d`."""
    limit_usd: Usd
    """What may be spent in it."""
    action: Literal["reject", "warn"] = "reject"
    """`reject` refuses what would pass the limit, `warn` only tells."""
    thresholds: tuple[Percent, ...] = (50, 80, 100)
    """Shares of the limit that are told, 1 to 1000."""
    timezone: Timezone = "UTC"
    """Whose midnight ends the window."""
    starts_on: Date | None = None
    """The day the first window begins; none is the calendar's own."""


class BudgetMatch(Section, frozen=True, kw_only=True):
    """Whom a top-level budget binds; the set fields must all match. None set: every call."""

    tenant: str | None = None
    """A tenant's id."""
    key: str | None = None
    """A key's name, as in the file or in `sluiceway keys create`, or its id."""
    user: str | None = None
    """A user."""
    model: str | None = None
    """A route's name; with a `*` at its end, all that begin so."""
    provider: str | None = None
    """A name under `providers`."""
    tag: str | None = None
    """A tag, as `key=value`."""


class MatchedBudget(Budget, frozen=True, kw_only=True):
    """A top-level budget with its match."""

    match: BudgetMatch
    """Whom it binds; all fields that are set must match."""


class TargetConfig(Section, frozen=True, kw_only=True):
    """One provider model that may serve a route."""

    provider: str
    """A name under `providers`."""
    model: str
    """The model as that provider calls it. A `*` takes what the route's `*` stood for."""
    base_model: str | None = None
    """What the model is, where its name does not tell: an Azure deployment's. For its price, and
    for what it can be asked."""
    weight: Positive = 1
    """Its share under `weighted`, 1 or more."""
    limits: Limits | None = None
    """Limits of this target."""
    price: Price | None = None
    """Its price, before that of the route."""
    price_factor: Factor = "1"
    """What its price is multiplied with, beside the factors of provider and route."""
    credential: str | None = None
    """The name of one of the provider's keys. None: any of them."""
    params: dict[str, object] = {}
    """Body fields added to calls to this target."""
    headers: Headers = {}
    """Headers added to calls to this target. Never shown."""
    capabilities: dict[str, bool] = {}
    """What the model can do, by name: true or false. The name of a body field says whether it is
    sent, before what is known of the vendor. `system_anywhere`: it takes system messages after the
    first. Both are consulted for providers of OpenAI's dialect. `prefill`: it goes on from a last
    message of the assistant's, or from a completion's prompt, which `stream_recovery: continue`
    makes use of; known of Claude, and of servers that complete."""


class Timeouts(Section, frozen=True, kw_only=True):
    """Lengths in seconds; DESIGN part 6 says what each spans."""

    connect_s: Seconds = 5.0
    """Until a connection to the provider stands."""
    first_token_s: Seconds = 60.0
    """Streams: until the first content."""
    idle_s: Seconds = 30.0
    """Streams: between two pieces of content. Pings do not count."""
    attempt_s: Seconds = 600.0
    """One call to one target."""
    first_byte_s: Seconds | None = None
    """Until an answer begins; a whole one does when it is done. None: `attempt_s` bounds it."""
    total_s: Seconds = 600.0
    """The whole chain. `X-Sluiceway-Timeout` can shorten it."""


class Retry(Section, frozen=True, kw_only=True):
    """Calls to one target, the first included, and the jittered wait between them."""

    max_attempts: Positive = 2
    """Calls to one target, the first included. A chain makes at most 6 calls whatever stands here.
    """
    base_s: Annotated[float, Meta(ge=0)] = 0.25
    """The first wait; each later one is twice as long, with jitter."""
    max_s: Annotated[float, Meta(ge=0)] = 8.0
    """The longest wait, at least `base_s`."""
    share: Annotated[float, Meta(ge=0)] = 0.2
    """How many calls may be made again, as a share of the route's requests of the last ten seconds;
    thirty in those seconds always may, even in one instant. Going on to another target that is fit
    is never refused."""


class Breaker(Section, frozen=True, kw_only=True):
    """When a target is left alone."""

    enabled: bool = True
    """Whether its failures, times and open calls are noted. Without it a failing target is asked
    like any other, and `least_latency` and `least_busy` know nothing of it."""
    failures: Positive = 5
    """Consecutive failures that open it."""
    window_s: Seconds = 30.0
    """Or half of 20 or more calls within this time."""
    open_s: Seconds = 15.0
    """How long it stays open."""
    half_open_probes: Positive = 1
    """Calls let through to find out whether it is back."""
    limited_s: Annotated[float, Meta(ge=0)] = 120.0
    """The longest that a target goes last that named a time for its next call. 0: never."""
    parked_s: Annotated[float, Meta(ge=0)] = 60.0
    """How long a credential goes last that was refused or is out of money. 0: it never does."""
    probe_s: Seconds | None = None
    """Ask a target that nobody asked for so long for one token, at its price. None: never."""


class Hedge(Section, frozen=True, kw_only=True):
    """When a second target is asked beside the first; both are paid for."""

    enabled: bool = False
    """Whether the next target is asked too when the first is slow; the first answer wins."""
    after_s: Seconds | None = None
    """How long the first has for itself. None: what 95 of 100 of the route's calls took of late."""


class RouteConfig(Section, frozen=True, kw_only=True):
    """A public model name and what may serve it."""

    model: ModelName
    """The public model name. A name that ends in `*`, such as `openai/*`, takes whatever begins
    like it."""
    aliases: tuple[ModelName, ...] = ()
    """Other names of the same route."""
    strategy: Strategy = "priority"
    """`priority` tries targets in the file's order, `weighted` spreads by weight, `round_robin`
    takes turns; also `least_latency`, `least_cost`, `least_busy`."""
    sticky: Sticky = "off"
    """What keeps to one target while it is fit, and to one other while it is not: `session`
    (`X-Sluiceway-Session`, else the user), `prompt_cache` (`prompt_cache_key`, else the session),
    or nothing (`off`)."""
    targets: Annotated[tuple[TargetConfig, ...], Meta(min_length=1)]
    """The provider models that may serve it, at least one."""
    rules: tuple[RouteRule, ...] = ()
    """Where a call goes instead, by its tags and headers: the first rule that matches."""
    fallbacks: tuple[str, ...] = ()
    """Routes tried when every target failed, within this route's `total_s`. Their own fallbacks are
    not followed."""
    on_failure: dict[FailureName, tuple[str, ...]] = {}
    """Other fallbacks by kind of failure: `rate_limited` `overloaded` `server_error` `timeout`
    `connection` `malformed` `credential` `context_length` `content_filter`. A refused prompt
    (`content_filter`) falls back nowhere by default."""
    timeouts: Timeouts = Timeouts()
    """How long things may take; each more than 0."""
    retry: Retry = Retry()
    """How a target is tried again."""
    breaker: Breaker = Breaker()
    """When a failing target is left alone."""
    hedge: Hedge = Hedge()
    """Asking a second target beside a slow one."""
    stream_recovery: StreamRecovery = "off"
    """What follows a cut stream of words: `off` an error event; `restart` asks the next target
    afresh and goes on after what was told, when it tells the same; `continue` lets it go on from
    there where it can."""
    price: Price | None = None
    """The price of all its targets, before the built-in list."""
    price_factor: Factor = "1"
    """What all prices of the route are multiplied with, beside the provider's factors."""
    limits: Limits | None = None
    """Limits of this route."""
    budgets: tuple[Budget, ...] = ()
    """Budgets of this route."""
    unsupported: Literal["drop", "error"] = "drop"
    """What happens to a parameter the target cannot do: `drop` or `error`."""
    unknown_price: UnknownPrice = "null"
    """What a call without a known price does: `null` (cost null), `deny`, or `estimate` by the
    dearest price of the route's other targets, else of whoever sells a model of that name. A budget
    that rejects denies what has none."""
    hold_output_tokens: Positive = 4096
    """Output assumed for a call that does not bound it, when money is set aside. Not sent to the
    provider."""


class KeyConfig(Section, frozen=True, kw_only=True):
    """A tenant's API key given in the file."""

    name: str
    """What the key is for; unique among the tenant's keys."""
    key: Key
    """The key. No two may be equal."""
    scopes: tuple[Scope, ...] = ()
    """What it may do besides: `provider_models` lets it ask for `provider/model` without a route.
    """
    models: tuple[str, ...] = ()
    """The only models it may ask for and sees in `/v1/models`: names of routes, or beginnings such
    as `openai/*`. Empty: all."""
    limits: Limits | None = None
    """Limits of this key."""
    budgets: tuple[Budget, ...] = ()
    """Budgets of this key."""


class UserTemplate(Section, frozen=True, kw_only=True):
    """Limits and budgets of each user of a tenant."""

    limits: Limits | None = None
    """Limits of each user."""
    budgets: tuple[Budget, ...] = ()
    """Budgets of each user."""


class TenantConfig(Section, frozen=True, kw_only=True):
    """Who pays."""

    id: TenantId
    """Its name, without spaces, `/` or `:`."""
    keys: tuple[KeyConfig, ...] = ()
    """API keys. Removing one here ends it."""
    limits: Limits | None = None
    """Limits of all its keys together."""
    budgets: tuple[Budget, ...] = ()
    """Budgets of all its keys together."""
    users: UserTemplate | None = None
    """A template for each user of the tenant."""
    timezone: Timezone | None = None
    """Whose midnights end the days, weeks and months its spending is summed up in. None: those of
    `billing`."""
    webhook_secret: WebhookSecret | None = None
    """Signs its webhooks: `whsec_` and the base64 of 24 to 64 bytes. None: minted with the tenant.
    """


class Config(Section, frozen=True, kw_only=True):
    """The whole file, checked; references between sections hold."""

    version: Literal[1] = 1
    """1. The version of this file's format."""
    providers: dict[ProviderName, ProviderConfig] = {}
    """Vendor accounts and servers, by a name of your choice."""
    routes: tuple[RouteConfig, ...] = ()
    """What callers may ask for."""
    tenants: tuple[TenantConfig, ...] = ()
    """Who pays, with keys kept in this file. Others are made with `sluiceway keys create`."""
    budgets: tuple[MatchedBudget, ...] = ()
    """Budgets that bind whoever matches."""
    cache: CacheConfig = CacheConfig()
    """The response cache."""
    queue: QueueConfig = QueueConfig()
    """Jobs."""
    policies: Policies = Policies()
    """What happens when something is away."""
    logging: LoggingConfig = LoggingConfig()
    """Request log lines."""
    server: ServerConfig = ServerConfig()
    """The HTTP edge."""
    webhooks: WebhooksConfig = WebhooksConfig()
    """Where webhooks may go."""
    files: FilesConfig = FilesConfig()
    """Files that callers store, and those fetched by URL for providers that cannot."""
    ledger: LedgerConfig = LedgerConfig()
    """The record of every call."""
    billing: Billing = Billing()
    """How spending is summed up."""
    alerts: Alerts = Alerts()
    """Where alerts about money go."""
    defaults: dict[str, object] = {}
    """Any key of a route but `model`, `aliases` and `targets`: put into every route that lacks it.
    Mappings are joined key by key, lists replaced."""
    disabled: tuple[str, ...] = ()
    """Optional providers without a key; filled by the loader, not a key of the file."""
