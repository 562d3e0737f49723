"""One inference call on its way through the edge: what its head says, and what the logs will.

`Call` speaks OpenAI's dialect; a dialect that has customs of its own at the edge is a subclass.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from functools import lru_cache

import msgspec
from litestar.types import HTTPScope, Receive
from typing_extensions import override

from api.access import Served
from api.asgi import check_json, lines_of, read_body, whole_body
from api.auth import bearer, header_map
from api.azure_path import with_model
from api.call import (
    DEFAULT_TIMEOUT_S,
    NO_PREFERENCE,
    books_id,
    forwarded,
    named_headers,
    preference,
    request_id_of,
    tags,
    text_header,
    timeout_s,
)
from api.connection import connection_of, while_connected
from api.edge import Edge
from api.errors import event_of
from api.idempotency import HEADER as IDEMPOTENCY_KEY
from api.idempotency import Once, fingerprint_of
from api.responses import Keeping, broken, runs_in_background
from shared.cache.control import PLAIN, read_control
from shared.clock import Deadline
from shared.errors import (
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    Overloaded,
    StreamInterrupted,
)
from shared.gateway.answer import CallContext
from shared.gateway.failure import failure_of
from shared.gateway.forms import parse_form
from shared.gateway.parse import parse_request
from shared.identity import Principal
from shared.jobs.background import Basis
from shared.limits.headers import anthropic_rate_headers, rate_headers
from shared.limits.limiter import Standing
from shared.providers.dialects.passed import FORM
from shared.providers.request import InferenceRequest
from shared.telemetry.bodies import Exchanged, StreamCopy
from shared.telemetry.redaction import without_secrets

Headers = list[tuple[bytes, bytes]]


@lru_cache(maxsize=64)  # calls that were admitted together have one standing
def _rate_lines(standing: Standing) -> bytes:
    return lines_of(rate_headers(standing))


class Call:
    """One inference call on its way through the edge.

    `keep_alive` is what a caller is sent who waits long for the next piece of a stream.
    `finishes`: its whole answers pass through `finished`. `fingerprint` is that of its body where
    its caller has named it, `once` what keeps its answer then.
    """

    dialect = "openai"
    keep_alive = b": keep-alive\n\n"
    finishes = False

    def __init__(self, edge: Edge, endpoint: str, scope: HTTPScope, receive: Receive) -> None:
        self.edge = edge
        self.endpoint = endpoint
        connection = self.connection = connection_of(scope)
        headers = header_map(scope["headers"]) if connection is None else connection.headers
        self.headers = headers
        asks = b"prefer" in headers
        self.preference = preference(scope["headers"]) if asks else NO_PREFERENCE
        self.method = scope["method"]
        # Azure's SDK names the model in the path.
        self._deployment: str | None = scope.get("deployment")  # type: ignore[assignment]
        self.scope = scope
        self.receive = receive
        self.started_s = edge.clock.monotonic()
        own_id = request_id_of(headers)
        self.request_id = own_id or edge.ids("req")
        self.books_id = books_id(own_id, self.request_id, edge.ids)
        self.principal: Principal | None = None
        self.model: str | None = None
        self.raw: bytes | None = None
        self.overhead_ms: float | None = None
        self.cached: str | None = None
        self.sent = False
        self.fingerprint: str | None = None
        self.once: Once | None = None

    async def read(self) -> tuple[Principal, InferenceRequest]:
        """Check method, key and type, then read and parse the body."""
        if self.method != "POST":
            raise MethodNotAllowed(f"{self.endpoint} takes POST.", allowed=["POST"])
        edge, headers = self.edge, self.headers
        key = bearer(headers)
        principal = self.principal = edge.keys.known(key) or await edge.keys.principal(key)
        self.check_type()
        raw = whole_body(self.connection, edge.max_body_bytes)
        if raw is None:
            raw = await read_body(self.receive, headers, edge.max_body_bytes, edge.clock)
        if self._deployment is not None:
            raw = with_model(raw, self._deployment)
        self.raw = raw
        if IDEMPOTENCY_KEY in headers:
            self.fingerprint = fingerprint_of(raw, headers.get(b"content-type", b""))
        request = self.parsed(raw)
        self.model = request.head.model
        return principal, request

    def check_type(self) -> None:
        """Return if the body is of the type that is taken here, or nothing is said."""
        check_json(self.headers)

    def parsed(self, raw: bytes) -> InferenceRequest:
        """Return the request that the body is."""
        return parse_request(self.endpoint, raw)

    def identity(self) -> Headers:
        """Return the headers by which the caller names this call later."""
        return [(b"x-request-id", self.request_id.encode())]

    def rates(self, standing: Standing) -> Iterable[tuple[bytes, bytes]]:
        """Return what is left of the caller's limits as headers."""
        return rate_headers(standing)

    def rate_lines(self, standing: Standing) -> bytes:
        """Return the same as lines."""
        return _rate_lines(standing)

    async def finished(self, body: bytes) -> bytes:
        """Return a whole answer as it is to be sent."""
        return body

    def pieces(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Return the pieces of a stream as they are to be sent."""
        return stream

    def event_of(self, error: GatewayError) -> bytes:
        """Return the event that ends a broken stream."""
        return event_of(error, self.dialect, self.request_id)

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
        headers = self.headers
        control = PLAIN if self.edge.caches else None
        if control is not None and b"cache-control" in headers:
            control = read_control(headers[b"cache-control"])
        names = self.edge.rule_headers
        return CallContext(
            request_id=self.books_id,
            tags=tags(headers),
            user=user_of(request, headers),
            session=text_header(headers, b"x-sluiceway-session"),
            own_deadline=own_deadline,
            cache=control,
            headers=named_headers(headers, names) if names else None,
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
                model=self.model if code is None else _shown(self.model),
                elapsed_ms=round((self.edge.clock.monotonic() - self.started_s) * 1000, 2),
                overhead_ms=None if self.overhead_ms is None else round(self.overhead_ms, 2),
                cache=self.cached,
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


class MessagesCall(Call):
    """A call in Anthropic's dialect."""

    dialect = "anthropic"
    keep_alive = b'event: ping\ndata: {"type": "ping"}\n\n'

    @override
    def parsed(self, raw: bytes) -> InferenceRequest:
        """Return the request, with what Anthropic itself would have to be told of its head."""
        request = parse_request(self.endpoint, raw)
        told = forwarded(self.headers, request.dialect)
        return msgspec.structs.replace(request, headers=told) if told else request

    @override
    def identity(self) -> Headers:
        """Return the id by its usual name and by Anthropic's."""
        own_id = self.request_id.encode()
        return [(b"x-request-id", own_id), (b"request-id", own_id)]

    @override
    def rates(self, standing: Standing) -> Iterable[tuple[bytes, bytes]]:
        """Return the limits by OpenAI's names and by Anthropic's."""
        return [*rate_headers(standing), *anthropic_rate_headers(standing, self.edge.clock.now())]

    @override
    def rate_lines(self, standing: Standing) -> bytes:
        """Return the same as lines."""
        return lines_of(self.rates(standing))


class ResponsesCall(Call):
    """A call for a response: it may go on from an earlier one, and is kept itself."""

    dialect = "openai_responses"
    finishes = True
    keeping: Keeping | None = None
    basis: Basis | None = None

    @override
    async def read(self) -> tuple[Principal, InferenceRequest]:
        """Check and parse, then write out what the request goes on from."""
        principal, request = await super().read()
        responses, tenant_id = self.edge.responses, principal.tenant_id
        if self.preference.respond_async:
            return principal, await responses.for_later(tenant_id, request)
        if runs_in_background(request):
            request, self.basis = await responses.in_background(tenant_id, request)
            return principal, request
        request, self.keeping = await responses.begin(tenant_id, request)
        return principal, request

    @override
    async def finished(self, body: bytes) -> bytes:
        """Keep the response, if its caller wants that."""
        return body if self.keeping is None else await self.keeping.whole(body)

    @override
    def pieces(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Keep the response before the caller is told that it is complete."""
        return stream if self.keeping is None else self.keeping.pieces(stream)

    @override
    def event_of(self, error: GatewayError) -> bytes:
        """Return the error with the number that is its turn."""
        return broken(failure_of(error), 0 if self.keeping is None else self.keeping.events)


class FormCall(Call):
    """A call whose body is a form with a file in it."""

    @override
    def check_type(self) -> None:
        """Return if the body is said to be a form.

        Raises:
            InvalidRequest: it is said to be something else.
        """
        if not self._content_type().lower().startswith(FORM):
            raise InvalidRequest(f"Send the body as a form with 'Content-Type: {FORM}'.")

    @override
    def parsed(self, raw: bytes) -> InferenceRequest:
        """Return the request that the form is; of the file the logs get the size."""
        self.raw = b'"[%d bytes]"' % len(raw)
        return parse_form(self.endpoint, raw, self._content_type())

    def _content_type(self) -> str:
        return self.headers.get(b"content-type", b"").decode("latin-1")


CALLS: Mapping[str, type[Call]] = {
    "anthropic": MessagesCall,
    "openai_responses": ResponsesCall,
}
"""Dialects with customs of their own at the edge."""


def _shown(model: str | None) -> str | None:
    """Return a model's name as it may be logged where a call failed: it may be a slipped key."""
    return None if model is None else without_secrets(model)


def user_of(request: InferenceRequest, headers: dict[bytes, bytes]) -> str | None:
    """Return the end user: as the body names one, else `X-Sluiceway-User`."""
    return request.user or text_header(headers, b"x-sluiceway-user")
