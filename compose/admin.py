"""`sluiceway keys`: tenants' API keys from a shell, straight in the database."""

import asyncio
import os
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, get_args

import click
import msgspec
from typing_extensions import override

from compose.console import FAILED, say, stop, table
from compose.opened import Opened, config_of
from shared.config.model import Config, Scope
from shared.settings import Settings, load_settings

if TYPE_CHECKING:
    from shared.store.records import KeyRow

KEY_PREFIX = "sk-sw-"
_KEY_BYTES = 32  # 43 characters of URL-safe base64
_TENANT = re.compile(r"[^\s/:]{1,64}")
_SPAN = re.compile(r"(?P<count>[1-9][0-9]{0,5})(?P<unit>[smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class ListedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as `keys list` shows it; `managed_by` is `database` or `file`."""

    id: str
    tenant: str
    name: str
    hint: str
    scopes: tuple[str, ...]
    state: str
    managed_by: str
    created_at: datetime | None = None
    expires_at: datetime | None = None


class Span(click.ParamType[timedelta]):
    """A length such as 90d."""

    name = "length"

    @override
    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = _SPAN.fullmatch(str(value))
        if found is None:
            self.fail(f'"{value}" is not a length such as 90d, 12h or 30m', param, ctx)
        return timedelta(**{_UNITS[found["unit"]]: int(found["count"])})


@click.group()
def keys() -> None:
    """Create, list and revoke API keys of tenants."""


@keys.command()
@click.option("--tenant", required=True, help="Who pays; made when there is no such tenant.")
@click.option("--name", required=True, help="What the key is for; unique among the tenant's keys.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(get_args(Scope)))
@click.option("--expires-in", type=Span(), help="When it ends, such as 90d or 12h. Default: never.")
def create(tenant: str, name: str, scopes: tuple[str, ...], expires_in: timedelta | None) -> None:
    """Make a key and print it, once. Only its hash is kept."""
    if _TENANT.fullmatch(tenant) is None:
        stop((), "a tenant's id is 1 to 64 characters without spaces, / or :")
    settings = load_settings(os.environ)
    key = KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    asyncio.run(_create(settings, key, tenant, name, scopes, expires_in))


@keys.command("list")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON array.")
def list_(tenant: str | None, *, as_json: bool) -> None:
    """List keys of the database and of the config file; never the keys themselves."""
    settings = load_settings(os.environ)
    found = asyncio.run(_stored(settings, tenant)) + _of_file(config_of(settings), tenant)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _print_table(found)


@keys.command()
@click.argument("key_id", metavar="ID")
def revoke(key_id: str) -> None:
    """End a key, by its ID in `keys list`. API processes notice within seconds."""
    if key_id.startswith("file:"):
        stop((), f"{key_id} stands in the config file; remove it there", code=FAILED)
    if not asyncio.run(_revoke(load_settings(os.environ), key_id)):
        stop(
            (),
            f"no key {key_id} that is not revoked already; see: sluiceway keys list",
            code=FAILED,
        )
    click.echo(f"revoked {key_id}")


async def _create(
    settings: Settings,
    key: str,
    tenant: str,
    name: str,
    scopes: Sequence[str],
    expires_in: timedelta | None,
) -> None:
    from shared.identity import key_hash
    from shared.ids import new_id
    from shared.sealing import Sealer
    from shared.store.keys import ensure_tenant, insert_key, list_keys
    from shared.store.records import KeyRow
    from shared.webhooks.signature import new_secret

    in_file = [one for one in config_of(settings).tenants if one.id == tenant]
    given = in_file[0].webhook_secret if in_file else None
    minted = given or new_secret(secrets.token_bytes)
    sealed = Sealer(settings.secret_key.reveal()).seal(minted)
    taken = {one.name for file in in_file for one in file.keys}
    async with Opened(settings) as store, store.write() as tx:
        now = await tx.now()
        row = await ensure_tenant(tx, tenant, sealed, now)
        taken |= {one.name for one in await list_keys(tx, tenant) if one.revoked_at is None}
        if name in taken:
            stop((), f'tenant "{tenant}" already has a key named "{name}"', code=FAILED)
        made = KeyRow(
            id=new_id("key"),
            tenant_id=tenant,
            name=name,
            key_hash=key_hash(settings.secret_key.reveal(), key),
            hint=key[-4:],
            scopes=tuple(dict.fromkeys(scopes)),
            created_at=now,
            expires_at=None if expires_in is None else now + expires_in,
            revoked_at=None,
        )
        await insert_key(tx, made)
    if given is None and row.webhook_secret == sealed:
        say("note", [f'made tenant "{tenant}"; its webhook secret, shown only now: {minted}'])
    say("note", [f"made {made.id}; the key below is shown only now"])
    click.echo(key)


async def _stored(settings: Settings, tenant: str | None) -> list[ListedKey]:
    from shared.store.keys import list_keys

    async with Opened(settings) as store, store.read() as tx:
        now = await tx.now()
        return [_listed(row, now) for row in await list_keys(tx, tenant)]


async def _revoke(settings: Settings, key_id: str) -> bool:
    from shared.store.keys import revoke_key

    async with Opened(settings) as store, store.write() as tx:
        return await revoke_key(tx, key_id, await tx.now())


def _of_file(config: Config, tenant: str | None) -> list[ListedKey]:
    from shared.identity import file_key_id

    return [
        ListedKey(
            id=file_key_id(one.id, key.name),
            tenant=one.id,
            name=key.name,
            hint=key.key[-4:],
            scopes=key.scopes,
            state="active",
            managed_by="file",
        )
        for one in config.tenants
        if tenant in {None, one.id}
        for key in one.keys
    ]


def _listed(row: "KeyRow", now: datetime) -> ListedKey:
    state = "active"
    if row.revoked_at is not None:
        state = "revoked"
    elif row.expires_at is not None and row.expires_at <= now:
        state = "expired"
    return ListedKey(
        id=row.id,
        tenant=row.tenant_id,
        name=row.name,
        hint=row.hint,
        scopes=tuple(row.scopes),
        state=state,
        managed_by="database",
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


def _print_table(found: Sequence[ListedKey]) -> None:
    if not found:
        click.echo("no keys; make one with: sluiceway keys create", err=True)
        return
    heads = ("ID", "TENANT", "NAME", "ENDS IN", "STATE", "EXPIRES", "SCOPES", "MANAGED BY")
    table([heads, *(_cells(one) for one in found)])


def _cells(key: ListedKey) -> tuple[str, ...]:
    expires = "never" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d %H:%M}Z"
    scopes = ",".join(key.scopes) or "-"
    return (
        key.id,
        key.tenant,
        key.name,
        f"…{key.hint}",
        key.state,
        expires,
        scopes,
        key.managed_by,
    )
