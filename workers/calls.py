"""A job's call: what was asked later goes through the same gateway as what is asked now."""

import msgspec

from shared.clock import Deadline
from shared.config.model import Config
from shared.gateway.answer import CallContext
from shared.gateway.parse import parse_request, whole
from shared.gateway.service import Gateway
from shared.identity import Principal, file_key_id
from shared.jobs.books import position_of
from shared.jobs.response import previous_of
from shared.jobs.run import Reply
from shared.ledger.books import Books
from shared.ledger.holds import Holds
from shared.providers.request import InferenceRequest
from shared.store.engine import Store
from shared.store.keys import list_keys
from shared.store.records import JobRow
from workers.streams import Streams, owner_of

MOST_NAMES = 10_000
"""Keys whose names are remembered."""


class GatewayCall:
    """Makes jobs' calls through the gateway, as whole answers or as streams that are kept."""

    def __init__(self, gateway: Gateway, store: Store, config: Config) -> None:
        self._gateway = gateway
        self._store = store
        self._streams = Streams(gateway, store, gateway.kit.clock)
        self._file_scopes = {
            file_key_id(tenant.id, key.name): frozenset[str](key.scopes)
            for tenant in config.tenants
            for key in tenant.keys
        }
        self._file_names = {
            file_key_id(tenant.id, key.name): key.name
            for tenant in config.tenants
            for key in tenant.keys
        }
        self._names: dict[str, str] = {}
        self._asks_names = any(budget.match.key is not None for budget in config.budgets)

    async def __call__(
        self, job: JobRow, *, deadline: Deadline, books: Books, holds: Holds
    ) -> Reply:
        """Return the answer; raises what `Gateway.complete` raises, or `Streams.call`."""
        request = _request(job)
        # Scopes matter only where a provider is addressed by name; the row need not be read else.
        scopes = await self._scopes(job) if "/" in request.head.model else frozenset[str]()
        principal = Principal(
            tenant_id=job.tenant_id,
            key_id=job.key_id,
            key_name=await self._name(job) if self._asks_names else "",
            scopes=scopes,
        )
        context = CallContext(
            request_id=job.request_id,
            job_id=job.id,
            batch_id=job.batch_id,
            tags=job.tags,
            user=job.user,
            position=position_of(job),
            headers=job.headers,
        )
        if job.streamed:
            return await self._streams.call(
                principal,
                job,
                request,
                deadline=deadline,
                books=books,
                holds=holds,
                context=context,
            )
        answer = await self._gateway.complete(
            principal, request, deadline=deadline, books=books, holds=holds, context=context
        )
        owner = owner_of(job)
        return Reply(
            body=answer.body if owner is None else owner.body(answer.body),
            status=answer.status,
            usage=answer.usage,
            attempts=answer.attempts,
        )

    async def _name(self, job: JobRow) -> str:
        """Return the name of the job's key, which budgets may go by; asked once of each key."""
        known = self._file_names.get(job.key_id) or self._names.get(job.key_id)
        if known is None:
            if len(self._names) >= MOST_NAMES:
                self._names.clear()
            async with self._store.read() as tx:
                keys = await list_keys(tx, job.tenant_id)
            known = next((key.name for key in keys if key.id == job.key_id), "")
            self._names[job.key_id] = known
        return known

    async def _scopes(self, job: JobRow) -> frozenset[str]:
        """Return what the job's key may do today; a revoked key may do nothing special."""
        if (from_file := self._file_scopes.get(job.key_id)) is not None:
            return from_file
        async with self._store.read() as tx:
            keys = await list_keys(tx, job.tenant_id)
        for key in keys:
            if key.id == job.key_id and key.revoked_at is None:
                return frozenset(key.scopes)
        return frozenset()


def _request(job: JobRow) -> InferenceRequest:
    """Return what a job asks. The history that a response goes on from is written out in it."""
    request = parse_request(job.endpoint, job.body)
    return msgspec.structs.replace(
        request if job.streamed else whole(request),
        headers=job.headers,
        expanded=request.dialect == "openai_responses" and previous_of(job.body) is not None,
    )
