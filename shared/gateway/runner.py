"""The calls of one request, each written in the books on every way out."""

import asyncio
from datetime import datetime

import msgspec

from shared.attempts.chain import AttemptFailed, TargetFull, Try
from shared.attempts.stream import UpstreamStream
from shared.attempts.whole import call_whole
from shared.chat.usage import Usage
from shared.clock import Clock
from shared.errors import (
    FailedAttempt,
    FailureKind,
    GatewayError,
    OwnFault,
    PermissionDenied,
    RateLimitExceeded,
    StoreUnavailable,
    UnsupportedParameter,
    UpstreamError,
)
from shared.gateway.admission import Admission, Estimate, Room, Ticket
from shared.gateway.answer import Answer, CacheTold, CallContext, CostDoubt
from shared.gateway.attempt import SUCCEEDED, Attempt
from shared.gateway.catalog import Catalog, Provider
from shared.gateway.files import Fetcher, NotFetched
from shared.gateway.preparation import Preparation
from shared.gateway.said import used_by
from shared.health.book import HealthBook
from shared.identity import Principal
from shared.ids import IdMaker
from shared.ledger.books import Books, Opening, Outcome
from shared.ledger.estimate import guessed_usage, known_usage
from shared.ledger.rates import CompiledPrice
from shared.limits.limiter import Scope
from shared.providers.exchange import Exchange, Reply, Transport
from shared.providers.request import InferenceRequest
from shared.routing.plan import Step
from shared.telemetry.log import get_logger
from shared.telemetry.tally import observe_first_token

log = get_logger("gateway")

MAYBE_BILLED = frozenset({FailureKind.TIMEOUT, FailureKind.CONNECTION, FailureKind.MALFORMED})
"""Failures without the provider's own refusal: it may have worked, so input is charged, flagged."""


class Kit(msgspec.Struct, frozen=True, kw_only=True):
    """What every call needs; one per process and config. Without a `fetcher` no URL is fetched."""

    catalog: Catalog
    transport: Transport
    clock: Clock
    ids: IdMaker
    admission: Admission
    health: HealthBook
    fetcher: Fetcher | None = None


class Runner(msgspec.Struct, eq=False):
    """Makes the attempts of one request; the chain decides which.

    `dropped` are the caller's fields that the target which answered could not be asked.
    """

    _kit: Kit
    _principal: Principal
    _request: InferenceRequest
    _books: Books
    _context: CallContext
    ticket: Ticket
    shown: list[FailedAttempt] = []
    spent_nanousd: int = 0
    dropped: tuple[str, ...] = ()
    _estimated: bool = False
    _preparation: Preparation | None = None

    async def whole(self, tried: Try) -> tuple[Reply, Attempt]:
        """Call for a whole answer.

        Raises:
            AttemptFailed: it failed and is in the books.
            TargetFull: a limit of the target's own is reached; nothing was asked.
        """
        exchange, attempt, limit_s = await self._open(tried)
        try:
            reply = await call_whole(
                exchange,
                self._kit.transport,
                timeouts=tried.step.timeouts,
                limit_s=limit_s,
                clock=self._kit.clock,
            )
        except BaseException as error:
            failure = self._failed(attempt, error)
            if failure is error:
                raise
            raise failure from error
        self.dropped = exchange.dropped
        usage = used_by(self._request, reply)
        self._won(attempt.close(SUCCEEDED, usage, reported_model=reply.model), attempt)
        return reply, attempt

    async def stream(self, tried: Try) -> tuple[UpstreamStream, Attempt]:
        """Call for a stream and wait for its first content; closing the attempt is then due.

        Raises:
            AttemptFailed: it failed before any content and is in the books.
            TargetFull: a limit of the target's own is reached; nothing was asked.
        """
        exchange, attempt, limit_s = await self._open(tried)
        upstream = UpstreamStream(
            exchange, self._kit.transport, tried.step.timeouts, self._kit.clock
        )
        try:
            await upstream.open(limit_s)
        except BaseException as error:
            failure = self._failed(attempt, error)
            if failure is error:
                raise
            raise failure from error
        self.dropped = exchange.dropped
        observe_first_token(attempt.opening.provider, upstream.first_token_s)
        return upstream, attempt

    def ask_now(self, request: InferenceRequest) -> None:
        """Ask this from now on: a broken stream may be gone on with by another question."""
        self._request = request

    def estimated(self, content_bytes: int) -> Usage:
        """Return a flagged guess of what was used, from what was sent and received."""
        return guessed_usage(self._request, content_bytes)

    def answer(self, route: str, reply: Reply, attempt: Attempt, told: CacheTold | None) -> Answer:
        """Return the answer that the last attempt has brought; `told` is what the cache did."""
        return Answer(
            body=reply.body,
            media_type=reply.media_type,
            route=route,
            provider=attempt.opening.provider,
            model=attempt.opening.model,
            reported_model=reply.model,
            attempts=tuple(self.shown),
            usage=reply.usage,
            cost_nanousd=None if attempt.cost_nanousd is None else self.spent_nanousd,
            cost_doubt=self.doubt(attempt),
            standing=self.ticket.standing,
            dropped=self.dropped,
            cache=told,
            given_by=attempt.opening.route,
            given_nanousd=attempt.cost_nanousd,
        )

    def doubt(self, attempt: Attempt) -> CostDoubt | None:
        """Return what is not sure of the cost of the request so far, with its last attempt's."""
        doubt = attempt.doubt
        return "estimated" if doubt is None and self._estimated else doubt

    def _won(self, shown: FailedAttempt, attempt: Attempt) -> None:
        self.shown.append(shown)
        self.spent_nanousd += attempt.cost_nanousd or 0
        self._estimated = self._estimated or attempt.estimated

    def close_stream(
        self,
        attempt: Attempt,
        upstream: UpstreamStream,
        outcome: Outcome,
        error: GatewayError | None = None,
    ) -> None:
        """Write how a stream that had shown content ended."""
        scanner = upstream.scanner
        told = scanner.usage
        if told is not None and scanner.content_bytes and told.output_tokens <= 0:
            told = msgspec.structs.replace(told, estimated=True)  # it has spoken and not counted
        usage = known_usage(
            self._request, told, scanner.content_bytes, service_tier=scanner.service_tier
        )
        shown = attempt.close(
            outcome,
            usage,
            error=error,
            reported_model=scanner.model,
            first_token_s=upstream.first_token_s,
        )
        self._won(shown, attempt)

    def _failed(
        self, attempt: Attempt, error: BaseException, own: GatewayError | None = None
    ) -> BaseException:
        """Write the failure; return what to raise: AttemptFailed for the chain, else as it came.

        `own` is why the target was not even asked.
        """
        if isinstance(error, UpstreamError):
            if error.kind is FailureKind.CREDENTIAL:
                self._refused(attempt)
            billed = error.billed or (error.kind in MAYBE_BILLED and error.sent)
            used = self.estimated(0) if billed else None
            shown = attempt.close(Outcome.FAILED, used, error=error)
            self._won(shown, attempt)
            log.warning(
                "attempt.failed",
                attempt_id=shown.id,
                target=f"{shown.provider}/{shown.model}",
                kind=error.kind.value,
                status_code=error.status,
                elapsed_ms=shown.duration_ms,
                reason=error.message,
            )
            return AttemptFailed(error, shown, own=own)
        if isinstance(error, asyncio.CancelledError):
            self._won(attempt.close(Outcome.CANCELLED, self.estimated(0)), attempt)
            return error
        own = error if isinstance(error, GatewayError) else GatewayError("A bug in the gateway.")
        # Where the books could not be written nothing was sent, but for parts before that.
        unsent = isinstance(own, StoreUnavailable) and not own.billed
        used = None if unsent else self.estimated(0)
        self._won(attempt.close(Outcome.FAILED, used, error=own), attempt)
        return error

    def _refused(self, attempt: Attempt) -> None:
        authorizer = self._kit.catalog.providers[attempt.opening.provider].authorizer
        if authorizer is not None:
            authorizer.refused()

    async def _open(self, tried: Try) -> tuple[Exchange, Attempt, float]:
        """Build the exchange and open the books; no provider is called before that is done.

        Also returns the seconds that are left for the call.

        Raises:
            AttemptFailed: this target cannot be asked this, which says nothing about the others.
            TargetFull: a limit of the target's own is reached.
        """
        kit, step, limit_s = self._kit, tried.step, tried.limit_s
        room = None if step.limits is None else await self._enter(tried, step.limits)
        built: Exchange | GatewayError
        try:
            estimate = self.ticket.estimates.at(step)
            price = estimate.price
            provider = kit.catalog.providers[step.target.provider]
            if provider.prepares:
                began_s = kit.clock.monotonic()
                built = await self._prepared(provider, step, limit_s, priced=price is not None)
                limit_s = max(0.0, limit_s - (kit.clock.monotonic() - began_s))
            else:
                built = self._built(provider, step, self._request, priced=price is not None)
            now = kit.clock.now()
            if price is not None and price.phases:
                price = price.at(now)
            opening = self._opening(tried, estimate, price, now)
            await self._books.open(opening)
        except BaseException:
            if room is not None:
                room.leave()
            raise
        clock, health, target = kit.clock, kit.health, step.target
        began_s = clock.monotonic()
        watched = health.begin(target, step.breaker) if step.breaker.enabled else None
        attempt = Attempt(
            opening, clock, self._books, price, self.ticket, health, target, room, watched, began_s
        )
        if isinstance(built, UpstreamError):
            raise self._failed(attempt, built) from built
        if isinstance(built, GatewayError):
            # The kind of a model that is not there: not asked again, and another may answer.
            error = UpstreamError(
                FailureKind.NOT_FOUND, built.message, param=built.param, sent=False
            )
            raise self._failed(attempt, error, own=built) from built
        return built, attempt, limit_s

    async def _enter(self, tried: Try, limits: Scope) -> Room:
        """Take the attempt's share of its target's limits."""
        estimates, left_s = self.ticket.estimates, tried.limit_s
        try:
            return await self._kit.admission.enter(tried.step, limits, estimates, left_s)
        except RateLimitExceeded as refusal:
            # Headers tell what is left to the caller, who hears of this only where none was asked.
            refusal.standing = self.ticket.untouched()
            raise TargetFull(refusal) from refusal

    async def _prepared(
        self, provider: Provider, step: Step, limit_s: float, *, priced: bool
    ) -> Exchange | GatewayError:
        """Build the exchange after what it has to wait for; returns why it cannot be."""
        kit = self._kit
        if self._preparation is None:
            self._preparation = Preparation(kit.transport, kit.clock, kit.fetcher)
        try:
            ready = await self._preparation.prepare(provider, self._request, step.target, limit_s)
        except (UpstreamError, NotFetched, UnsupportedParameter) as error:
            return error
        return self._built(provider, step, ready.request, ready.secret, priced=priced)

    def _built(
        self,
        provider: Provider,
        step: Step,
        request: InferenceRequest,
        obtained: str | None = None,
        *,
        priced: bool,
    ) -> Exchange | UnsupportedParameter | PermissionDenied | OwnFault:
        if not priced and (denied := self.ticket.denied(step)) is not None:
            return denied
        try:
            return provider.exchange(request, step.target, obtained)
        except (UnsupportedParameter, OwnFault) as error:
            return error

    def _opening(
        self, tried: Try, estimate: Estimate, price: CompiledPrice | None, at: datetime
    ) -> Opening:
        """Return it. Of more than 15 names Python 3.11 makes a dict first: a part goes by place."""
        step, target, context = tried.step, tried.step.target, self._context
        principal, request, hold = self._principal, self._request, self.ticket.hold
        return Opening(
            self._kit.ids("att"),
            context.request_id,
            tried.number,
            at,
            principal.tenant_id,
            principal.key_id,
            request.endpoint,
            step.route,
            target.provider,
            target.model,
            target.credential,
            request.stream,
            context.job_id,
            context.batch_id,
            user=context.user,
            tags=context.tags,
            estimate_nanousd=estimate.cost_nanousd,
            estimate_usage=estimate.usage,
            price_source=None if price is None else price.source,
            price_version=None if price is None else price.version,
            budgets=() if hold is None else hold.at(step.route, target.provider).refs,
            grant=None if hold is None else hold.owner,
        )
