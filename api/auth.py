"""A caller's key to a Principal, from a table in memory; SQL only for keys not seen before."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from shared.clock import Clock
from shared.config.model import Config
from shared.errors import InvalidApiKey, PermissionDenied, StoreUnavailable
from shared.identity import MODEL_SCOPE, Principal, file_key_id, key_hash
from shared.store.engine import Store
from shared.store.keys import active_keys, key_by_hash
from shared.store.records import KeyRow
from shared.telemetry.log import get_logger

log = get_logger("auth")

REFRESH_S = 5.0
"""How long a key revoked elsewhere may still work here."""

UNKNOWN_S = 2.0
"""How long an unknown key is remembered as such, so that guessing costs no SQL each time."""

UNKNOWN_MAX = 10_000
HASHES_MAX = 10_000

AFTER_FAILURE_S = 1.0
"""When a refresh that failed is tried again."""

STALE_S = 10.0
"""With `policies.database_down.auth: deny`: no key is taken when the table is older than this."""

LOOKUP_S = 2.0
"""How long the database may take to say whose key it is; the caller is waiting."""


class KeyTable:
    """Keys of the config file and of the database, by keyed hash."""

    def __init__(
        self, config: Config, secret_key: str, master_key: str | None, store: Store, clock: Clock
    ) -> None:
        self._secret = secret_key
        self._master_hash = None if master_key is None else key_hash(secret_key, master_key)
        self._store = store
        self._clock = clock
        self._from_file = {
            key_hash(secret_key, key.key): Principal(
                tenant_id=tenant.id,
                key_id=file_key_id(tenant.id, key.name),
                key_name=key.name,
                scopes=frozenset(key.scopes),
                models=key.models,
            )
            for tenant in config.tenants
            for key in tenant.keys
        }
        self._from_store: dict[str, tuple[Principal, datetime | None]] = {}
        self._unknown: dict[str, float] = {}
        self._hashes: dict[str, str] = {}
        self._denies = config.policies.database_down.auth == "deny"
        self._refreshed_s = clock.monotonic()

    async def refresh(self) -> None:
        """Take the database's keys anew; revoked and expired ones are gone after this.

        Raises:
            StoreUnavailable: the database is away or too slow; the table is as it was.
        """
        asked_s = self._clock.monotonic()
        try:
            async with self._clock.timeout(REFRESH_S), self._store.read() as tx:
                rows = await active_keys(tx)
        except TimeoutError as error:
            raise StoreUnavailable(f"The keys could not be read within {REFRESH_S:g} s.") from error
        self._refreshed_s = asked_s
        self._from_store = {row.key_hash: (_principal(row), row.expires_at) for row in rows}

    async def run(self) -> None:
        """Refresh for ever; with the database away the last table serves on, if the policy lets it.

        An outage is logged once, at its beginning.
        """
        failing = False
        while True:
            try:
                await self.refresh()
                failing = False
            except StoreUnavailable as error:
                if not failing:
                    log.warning("keys.stale", why=str(error))
                failing = True
            except Exception:
                failing = True
                log.exception("keys.failed")
            await self._clock.sleep(AFTER_FAILURE_S if failing else REFRESH_S)

    def is_master(self, key: str) -> bool:
        """Say whether it is the master key."""
        return self._master_hash is not None and key_hash(self._secret, key) == self._master_hash

    async def principal(self, key: str | None) -> Principal:
        """Return who holds the key.

        Raises:
            InvalidApiKey: none given, unknown, revoked or expired.
            PermissionDenied: the master key, which is for administration only.
            StoreUnavailable: not known here and the database cannot be asked, never a 401; or any
                key, when the database has been away for STALE_S and the policy is `deny`.
        """
        if not key:
            raise InvalidApiKey("No API key was given; send it as 'Authorization: Bearer <key>'.")
        known = self.known(key)
        if known is not None:
            return known
        hashed = self._hash_of(key)
        if hashed == self._master_hash:
            raise PermissionDenied(
                "The master key is for /admin only; create a tenant's key with "
                "'sluiceway keys create' and use that."
            )
        return await self._looked_up(hashed)

    def known(self, key: str | None) -> Principal | None:
        """Return who holds a key in use, at once; None where `principal` has to find out.

        Raises:
            InvalidApiKey: it has expired.
            StoreUnavailable: the table is too old, and the policy is `deny`.
        """
        if not key:
            return None
        if self._denies and self._clock.monotonic() - self._refreshed_s > STALE_S:
            raise StoreUnavailable(
                "Whether keys are still good cannot be told without the database, and "
                "policies.database_down.auth is `deny`."
            )
        hashed = self._hash_of(key)
        if (known := self._from_file.get(hashed)) is not None:
            return known
        if (stored := self._from_store.get(hashed)) is not None:
            principal, expires_at = stored
            if expires_at is None or expires_at > self._clock.now():
                return principal
            raise InvalidApiKey("This API key has expired.")
        return None

    def _hash_of(self, key: str) -> str:
        """Return the keyed hash; that of a key in use is remembered, for it costs 5 µs a call."""
        hashed = self._hashes.get(key)
        if hashed is None:
            hashed = key_hash(self._secret, key)
            if hashed in self._from_file or hashed in self._from_store:
                if len(self._hashes) >= HASHES_MAX:
                    self._hashes.clear()
                self._hashes[key] = hashed
        return hashed

    async def _looked_up(self, hashed: str) -> Principal:
        now_s = self._clock.monotonic()
        if self._unknown.get(hashed, 0.0) <= now_s:
            row = await self._row(hashed)
            if row is not None and _usable(row, self._clock.now()):
                self._from_store[hashed] = (_principal(row), row.expires_at)
                return _principal(row)
            if len(self._unknown) >= UNKNOWN_MAX:
                self._unknown.clear()
            self._unknown[hashed] = now_s + UNKNOWN_S
        raise InvalidApiKey("This API key is unknown or has been revoked.")

    async def _row(self, hashed: str) -> KeyRow | None:
        try:
            async with self._clock.timeout(LOOKUP_S), self._store.read() as tx:
                return await key_by_hash(tx, hashed)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"The key could not be looked up within {LOOKUP_S:g} s."
            ) from error


def bearer(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the key from `Authorization: Bearer`, `x-api-key` or `api-key`."""
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            return key.strip().decode("latin-1") or None
    key = headers.get(b"x-api-key") or headers.get(b"api-key") or b""
    return key.decode("latin-1") or None


def header_map(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers by lower-case name; the last of a repeated one counts."""
    return dict(pairs)


def _principal(row: KeyRow) -> Principal:
    return Principal(
        tenant_id=row.tenant_id,
        key_id=row.id,
        key_name=row.name,
        scopes=frozenset(row.scopes),
        models=tuple(
            scope.removeprefix(MODEL_SCOPE) for scope in row.scopes if scope.startswith(MODEL_SCOPE)
        ),
    )


def _usable(row: KeyRow, now: datetime) -> bool:
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > now)
