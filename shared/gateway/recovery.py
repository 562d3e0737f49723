"""Who goes on with a broken stream: the targets that are left, asked to continue or afresh."""

from collections.abc import Sequence

import msgspec

from shared.attempts.chain import AttemptFailed, Try, run_chain
from shared.attempts.prefill import prefilled
from shared.attempts.recovery import Splice, Telling, Told
from shared.attempts.remedy import MAX_CHAIN_ATTEMPTS
from shared.attempts.retry_budget import Allowance
from shared.attempts.spoken import COMPLETIONS, READERS
from shared.attempts.stream import UpstreamStream
from shared.clock import Clock, Deadline
from shared.config.model import StreamRecovery
from shared.errors import FailureKind, StreamInterrupted, UpstreamError
from shared.gateway.attempt import Attempt
from shared.gateway.catalog import Catalog
from shared.gateway.runner import Runner
from shared.providers.dialects.anthropic_models import quirks_of
from shared.providers.request import InferenceRequest
from shared.providers.target import Target
from shared.routing.order import Draw
from shared.routing.plan import Plan, Step
from shared.telemetry.log import get_logger
from shared.telemetry.tally import observe_recovery

log = get_logger("gateway")

_PREFILLS = frozenset({"anthropic", "bedrock"})
"""Kinds known to go on from a last message of the assistant's, as far as their models do.

Others begin a new answer, or fail, or need an option: there the config has to say that they can.
"""
_BARE = frozenset({"anthropic", "bedrock"})
"""Kinds that refuse a prefill with white space at its end."""
_COMPLETES = frozenset({
    "openai", "azure_openai", "vllm", "sglang", "llamacpp", "lmstudio", "together", "fireworks",
})  # fmt: skip
"""Kinds that go on from any prompt of a completion, for that is all they do there."""
_MAY_COMPLETE = frozenset({"openai_compatible", "openrouter", "xai"})
"""Kinds that may give the prompt to a model that chats; the config has to say that they do not."""


class Continued(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that goes on with another one.

    `said_bytes` of the answer were given to its provider, which counts them as input.
    """

    upstream: UpstreamStream
    attempt: Attempt
    splice: Splice
    said_bytes: int = 0


class Recovery:
    """Finds a stream to go on with, for one request; one on every stream that may be recovered."""

    def __init__(
        self,
        mode: StreamRecovery,
        plan: Plan,
        runner: Runner,
        request: InferenceRequest,
        *,
        catalog: Catalog,
        clock: Clock,
        deadline: Deadline,
        draw: Draw,
        allowance: Allowance,
    ) -> None:
        self.told = Told(request.endpoint)
        self._mode = mode
        self._plan = plan
        self._runner = runner
        self._request = request
        self._catalog = catalog
        self._clock = clock
        self._deadline = deadline
        self._draw = draw
        self._allowance = allowance
        self._step: Step | None = None
        self._tries: dict[int, int] = {}

    async def first(self, tried: Try) -> tuple[UpstreamStream, Attempt]:
        """Call for the stream that may have to be gone on with later."""
        won = await self._runner.stream(tried)
        self._now_from(tried.step)
        return won

    async def next(self, error: UpstreamError) -> Continued:
        """Return the stream that goes on after one that broke by this error.

        Raises:
            GatewayError: nobody goes on, or nobody can.
        """
        telling = self.told.so_far()
        if not telling.in_text:
            raise StreamInterrupted("What had been said cannot be gone on with.")
        steps = self._left(error)
        if not steps or len(self._runner.shown) >= MAX_CHAIN_ATTEMPTS:
            raise StreamInterrupted("No other target is left.")
        plan = msgspec.structs.replace(self._plan, steps=tuple(steps), redirects={})

        async def call(tried: Try) -> Continued:
            return await self._asked_on(tried, telling)

        found = await run_chain(
            plan,
            call,
            clock=self._clock,
            deadline=self._deadline,
            draw=self._draw,
            allowance=self._allowance,
        )
        observe_recovery("recovered")
        opening = found.attempt.opening
        log.info(
            "stream.recovered",
            attempt_id=opening.attempt_id,
            target=f"{opening.provider}/{opening.model}",
            told_characters=len(telling.text),
            kind=error.kind.value,
        )
        return found

    def _left(self, error: UpstreamError) -> Sequence[Step]:
        """Return who may be asked: those that are left, else the same one if it may be back."""
        step, steps = self._step, self._plan.steps
        left = self._plan.redirects.get(error.kind)
        if left is None:
            left = steps[steps.index(step) + 1 :] if step in steps else ()
        while left and not self._allowance.onward(left[0]):
            left = left[1:]
        if left or step is None or error.kind is FailureKind.TIMEOUT:
            return left
        again = self._tries[id(step)] < step.retry.max_attempts and self._allowance.again(step)
        return (step,) if again else ()

    async def _asked_on(self, tried: Try, telling: Telling) -> Continued:
        """Ask with a prefill where the target takes one, and without if it is refused."""
        given = self._given(tried.step.target, telling)
        if given is not None:
            said, raw = given
            request = msgspec.structs.replace(self._request, raw=raw, history=None)
            try:
                upstream, attempt = await self._called(tried, request)
            except AttemptFailed as failure:
                if failure.own is None and failure.error.kind is not FailureKind.REJECTED:
                    raise
            else:
                return Continued(
                    upstream=upstream,
                    attempt=attempt,
                    splice=Splice(telling, self._request, said),
                    said_bytes=len(said.encode()),
                )
        upstream, attempt = await self._called(tried)
        splice = Splice(telling, self._request, "")
        return Continued(upstream=upstream, attempt=attempt, splice=splice)

    def _given(self, target: Target, telling: Telling) -> tuple[str, bytes] | None:
        """Return what of the text the target is given to go on from, and the body with it."""
        if self._mode != "continue" or telling.thought:
            return None
        kind = self._catalog.providers[target.provider].config.kind
        completion = self._request.endpoint == COMPLETIONS
        able = completes(kind, target) if completion else takes_prefill(kind, target)
        return prefilled(self._request, telling.text, bare=kind in _BARE) if able else None

    async def _called(
        self, tried: Try, request: InferenceRequest | None = None
    ) -> tuple[UpstreamStream, Attempt]:
        shown, step = self._runner.shown, tried.step
        if len(shown) >= MAX_CHAIN_ATTEMPTS:
            raise StreamInterrupted("No more targets are asked for one answer.")
        self._runner.ask_now(request or self._request)
        self._now_from(step)
        left_s = self._deadline.left_s(self._clock)
        tried = Try(step=step, number=len(shown) + 1, limit_s=left_s)
        return await self._runner.stream(tried)

    def _now_from(self, step: Step) -> None:
        self._step = step
        self._tries[id(step)] = self._tries.get(id(step), 0) + 1


def takes_prefill(kind: str, target: Target) -> bool:
    """Return whether a target goes on from the beginning of an answer; the config goes first."""
    told = target.capabilities.get("prefill")
    if told is not None:
        return told
    return kind in _PREFILLS and quirks_of(target.known_as).prefill


def completes(kind: str, target: Target) -> bool:
    """Return whether a target goes on from a prompt; the config goes first."""
    told = target.capabilities.get("prefill")
    if kind in _MAY_COMPLETE:
        return bool(told)
    return kind in _COMPLETES and told is not False


def may_recover(request: InferenceRequest) -> bool:
    """Return whether a stream of this kind can be gone on with at all: it is of one answer."""
    return request.endpoint in READERS and request.choice_count == 1 and request.prompt_count == 1
