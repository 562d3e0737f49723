"""What the handlers of one API process share."""

from typing import cast

from litestar.types import Scope

from api.access import AccessLog
from api.async_calls import AsyncCalls
from api.auth import KeyTable
from api.background import Background
from api.closing import Closing
from api.idempotency import Idempotency
from api.responses import Responses
from api.shedding import Door, room_for_calls
from shared.clock import Clock
from shared.gateway.service import Gateway
from shared.ids import IdMaker
from shared.ledger.books import Books
from shared.ledger.budgets import BudgetTable
from shared.ledger.holds import ProcessHolds
from shared.runtime import Runtime
from shared.telemetry.bodies import BodyLog
from shared.telemetry.configured import configured_secrets


class Edge:
    """The parts of an API process, and what it has in flight."""

    def __init__(
        self, runtime: Runtime, keys: KeyTable, books: Books, holds: ProcessHolds, access: AccessLog
    ) -> None:
        secrets = configured_secrets(runtime.config, runtime.settings)
        self.bodies = BodyLog(runtime.config.logging, secrets)
        self.runtime = runtime
        self.keys = keys
        self.books = books
        self.holds = holds
        self.budgets = BudgetTable(runtime.config)
        self.access = access
        self.clock: Clock = runtime.clock
        self.ids: IdMaker = runtime.ids
        self.gateway: Gateway = runtime.gateway
        self.max_body_bytes = runtime.config.server.max_body_mb * 1024 * 1024
        self.closing = Closing()
        self.async_calls = AsyncCalls(runtime, self.closing)
        self.responses = Responses(runtime.store, runtime.clock, most_bytes=self.max_body_bytes)
        self.background = Background(runtime, self.async_calls, self.closing)
        self.idempotency = Idempotency(runtime.store, runtime.clock, runtime.ids, runtime.sealer)
        self.door = Door(runtime.config.server, runtime.lag, room_for_calls())
        self.rule_headers = runtime.gateway.kit.catalog.rule_headers
        self.caches = runtime.config.cache.enabled
        self.running = 0
        self.stopping = False


_EDGE = "sluiceway_edge"


def with_edge(scope: Scope, edge: Edge) -> Scope:
    """Return the scope of a request that has come to that Edge."""
    return cast("Scope", {**scope, "state": {**scope.get("state", {}), _EDGE: edge}})


def edge_of(scope: Scope) -> Edge:
    """Return the Edge that a request has come to."""
    return cast("Edge", scope["state"][_EDGE])
