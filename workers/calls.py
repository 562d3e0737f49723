"""A job's call: what was asked later goes through the same gateway as what is asked now."""

from shared.clock import Deadline
from shared.config.model import Config
from shared.gateway.answer import CallContext
from shared.gateway.parse import parse_request, whole
from shared.gateway.service import Gateway
from shared.identity import Principal, file_key_id
from shared.jobs.run import Reply
from shared.ledger.books import Books
from shared.ledger.holds import Holds
from shared.store.engine import Store
from shared.store.keys import list_keys
from shared.store.records import JobRow


class GatewayCall:
    """Makes jobs' calls through the gateway, as whole answers."""

    def __init__(self, gateway: Gateway, store: Store, config: Config) -> None:
        self._gateway = gateway
        self._store = store
        self._file_scopes = {
            file_key_id(tenant.id, key.name): frozenset[str](key.scopes)
            for tenant in config.tenants
            for key in tenant.keys
        }

    async def __call__(
        self, job: JobRow, *, deadline: Deadline, books: Books, holds: Holds
    ) -> Reply:
        """Return the answer; raises what `Gateway.complete` raises."""
        request = whole(parse_request(job.endpoint, job.body))
        # Scopes matter only where a provider is addressed by name; the row need not be read else.
        scopes = await self._scopes(job) if "/" in request.head.model else frozenset[str]()
        answer = await self._gateway.complete(
            Principal(tenant_id=job.tenant_id, key_id=job.key_id, key_name="", scopes=scopes),
            request,
            deadline=deadline,
            books=books,
            holds=holds,
            context=CallContext(
                request_id=job.request_id,
                job_id=job.id,
                tags=job.tags,
                user=job.user,
            ),
        )
        return Reply(
            body=answer.body,
            status=answer.status,
            usage=answer.usage,
            attempts=answer.attempts,
        )

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
