"""What the key of a batch may ask, and the calls its lines are."""

from functools import partial

import msgspec

from shared.config.model import Config
from shared.errors import InvalidRequest, UnsupportedParameter
from shared.gateway.parse import parse_request, whole
from shared.gateway.service import Gateway
from shared.identity import MODEL_SCOPE, Principal, file_key_id
from shared.jobs.batch.check import Asked
from shared.jobs.batch.held import Caller
from shared.store.batches import BatchRow
from shared.store.engine import Store
from shared.store.keys import list_keys

RESPONSES = "/v1/responses"
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_UNSERVED = ("previous_response_id", "conversation", "background")
"""Of responses: a line begins from nothing, and is later by itself."""
_NOTHING = frozenset({b"null", b"false"})


class Callers:
    """Finds out what the keys of batches may do today."""

    def __init__(self, gateway: Gateway, store: Store, config: Config) -> None:
        self._gateway = gateway
        self._store = store
        self._from_file = {
            file_key_id(tenant.id, key.name): Principal(
                tenant_id=tenant.id,
                key_id=file_key_id(tenant.id, key.name),
                key_name=key.name,
                scopes=frozenset(key.scopes),
                models=key.models,
            )
            for tenant in config.tenants
            for key in tenant.keys
        }

    async def __call__(self, row: BatchRow) -> Caller:
        """Return what the batch's key may ask of its endpoint.

        Raises:
            StoreUnavailable: the key cannot be looked up.
        """
        principal = self._from_file.get(row.key_id) or await self._stored(row)

        def check(body: bytes) -> Asked:
            asked = read(row.endpoint, body)
            self._gateway.check(principal, asked.model or "")
            return asked

        return Caller(check=check, read=partial(read, row.endpoint))

    async def _stored(self, row: BatchRow) -> Principal:
        async with self._store.read() as tx:
            keys = await list_keys(tx, row.tenant_id)
        own = next((key.scopes for key in keys if key.id == row.key_id), ())
        return Principal(
            tenant_id=row.tenant_id,
            key_id=row.key_id,
            key_name="",
            scopes=frozenset(own),
            models=tuple(
                one.removeprefix(MODEL_SCOPE) for one in own if one.startswith(MODEL_SCOPE)
            ),
        )


def read(endpoint: str, body: bytes) -> Asked:
    """Return the call that a line's body is.

    Raises:
        InvalidRequest, UnsupportedParameter: it is none, or none that a batch makes.
    """
    request = parse_request(endpoint, body)
    if request.stream:
        raise InvalidRequest("A line of a batch cannot stream.", param="stream")
    request = whole(request)
    raw = _for_later(request.raw) if endpoint == RESPONSES else request.raw
    return Asked(body=raw, model=request.head.model, user=request.user)


def _for_later(raw: bytes) -> bytes:
    """Return a response's request as a job runs it: nothing of it is kept."""
    fields = _fields(raw)
    for name in _UNSERVED:
        if bytes(fields.pop(name, b"null")) not in _NOTHING:
            raise UnsupportedParameter(f"A batch does not serve `{name}`.", param=name)
    fields["store"] = msgspec.Raw(b"false")
    return msgspec.json.encode(fields)
