"""One inference call on its way through the edge: what its head says, and what the logs will."""

from litestar.types import HTTPScope, Receive

from api.access import Served
from api.asgi import check_json, read_body
from api.auth import bearer, header_map
from api.call import (
    DEFAULT_TIMEOUT_S,
    NO_PREFERENCE,
    books_id,
    preference,
    request_id_of,
    tags,
    text_header,
    timeout_s,
)
from api.connection import connection_of, while_connected
from api.edge import Edge
from shared.clock import Deadline
from shared.errors import GatewayError, MethodNotAllowed, Overloaded, StreamInterrupted
from shared.gateway.answer import CallContext
from shared.gateway.parse import parse_request
from shared.identity import Principal
from shared.providers.request import InferenceRequest
from shared.telemetry.bodies import Exchanged, StreamCopy


class Call:
    """One inference call on its way through the edge."""

    def __init__(self, edge: Edge, endpoint: str, scope: HTTPScope, receive: Receive) -> None:
        self.edge = edge
        self.endpoint = endpoint
        self.headers = header_map(scope["headers"])
        asks = b"prefer" in self.headers
        self.preference = preference(scope["headers"]) if asks else NO_PREFERENCE
        self.method = scope["method"]
        self.receive = receive
        self.connection = connection_of(scope)
        self.started_s = edge.clock.monotonic()
        self.request_id = request_id_of(self.headers) or edge.ids("req")
        self.books_id = books_id(self.headers, self.request_id, edge.ids)
        self.principal: Principal | None = None
        self.model: str | None = None
        self.raw: bytes | None = None
        self.overhead_ms: float | None = None
        self.sent = False

    async def read(self) -> tuple[Principal, InferenceRequest]:
        """Check method, key and type, then read and parse the body."""
        if self.method != "POST":
            raise MethodNotAllowed(f"{self.endpoint} takes POST.", allowed=["POST"])
        principal = self.principal = await self.edge.keys.principal(bearer(self.headers))
        check_json(self.headers)
        edge = self.edge
        raw = await read_body(
            self.receive, self.headers, edge.max_body_bytes, edge.clock, self.connection
        )
        self.raw = raw
        request = parse_request(self.endpoint, raw)
        self.model = request.head.model
        return principal, request

    def while_connected(self) -> while_connected:
        """Return the guard of the call's work: it ends when the caller leaves or we stop."""
        return while_connected(
            self.receive, self.edge.closing, self.cut_short, connection=self.connection
        )

    def deadline(self) -> tuple[Deadline, bool]:
        """Return the deadline, and whether the caller set it."""
        asked_s = timeout_s(self.headers)
        length_s = DEFAULT_TIMEOUT_S if asked_s is None else asked_s
        return Deadline(self.started_s + length_s), asked_s is not None

    def context(self, request: InferenceRequest, *, own_deadline: bool) -> CallContext:
        """Return who asked, for the books."""
        return CallContext(
            request_id=self.books_id,
            tags=tags(self.headers),
            user=user_of(request, self.headers),
            own_deadline=own_deadline,
        )

    def overhead(self, upstream_ms: int) -> bytes:
        """Note our own share of the time so far, and return it in milliseconds."""
        elapsed_ms = (self.edge.clock.monotonic() - self.started_s) * 1000
        self.overhead_ms = max(0.0, elapsed_ms - upstream_ms)
        return b"%.1f" % self.overhead_ms

    def cut_short(self) -> GatewayError:
        """Return what a caller is told whose call outlasts this process."""
        if self.sent:
            return StreamInterrupted("The gateway is stopping; the answer is not complete.")
        return Overloaded("The gateway is stopping; send the request again.")

    def copy(self) -> StreamCopy | None:
        """Return where to keep a stream's pieces for the log, None when it is not to be there."""
        return StreamCopy() if self.edge.bodies.wants(self.request_id) else None

    def served(
        self, status: int, code: str | None, response: bytes | StreamCopy | None = None
    ) -> None:
        """Count and log the call, with the bodies where that is wanted."""
        self.edge.access.add(
            Served(
                level="info",
                timestamp=self.edge.clock.now(),
                request_id=self.request_id,
                endpoint=self.endpoint,
                status=status,
                code=code,
                tenant_id=None if self.principal is None else self.principal.tenant_id,
                model=self.model,
                elapsed_ms=round((self.edge.clock.monotonic() - self.started_s) * 1000, 2),
                overhead_ms=None if self.overhead_ms is None else round(self.overhead_ms, 2),
            )
        )
        if response is not None and self.edge.bodies.wants(self.request_id):
            self._log_bodies(status, code, response)

    def _log_bodies(self, status: int, code: str | None, response: bytes | StreamCopy) -> None:
        self.edge.bodies.add(
            Exchanged(
                timestamp=self.edge.clock.now(),
                request_id=self.request_id,
                endpoint=self.endpoint,
                status=status,
                request=self.raw or b"",
                response=response,
                code=code,
                tenant_id=None if self.principal is None else self.principal.tenant_id,
                model=self.model,
            )
        )


def user_of(request: InferenceRequest, headers: dict[bytes, bytes]) -> str | None:
    """Return the end user: `safety_identifier`, else `user`, else `X-Sluiceway-User`."""
    head = request.head
    return head.safety_identifier or head.user or text_header(headers, b"x-sluiceway-user")
