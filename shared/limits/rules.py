"""The arithmetic of limits. `script.lua` does the same inside Redis; a contract test compares.

Each rate is a bucket that holds its figure and refills at figure / period: over any T seconds it
lets at most figure + rate x T pass. A scope has four: requests and tokens, a minute and a day.
"""

import math
from collections.abc import Iterable, Sequence

import msgspec

from shared.config.model import Limits
from shared.errors import RateLimitExceeded
from shared.limits.limiter import Scope, Standing

PERIODS_S = (60.0, 86_400.0, 60.0, 86_400.0)
WORDS = ("requests per minute", "requests per day", "tokens per minute", "tokens per day")
NAMES = ("rpm", "rpd", "tpm", "tpd")

Figures = tuple[int, int, int, int]
"""In the order of `WORDS`; 0 is no limit."""

Levels = tuple[float, float, float, float]
"""What each bucket holds; below zero it is in debt, infinite where nothing was ever taken."""

FULL: Levels = (math.inf, math.inf, math.inf, math.inf)

ROUNDING = 1e-6
"""A millionth of a token: what floats may lose between a wait and its end."""

SLOT_WAIT_S = 1.0
"""When a slot comes free is unknown; a second is the shortest wait that Retry-After can say."""


_Left = tuple[int, float, int]
"""What is left of a rate, the seconds until it is whole, and its figure."""

_Unlimited = tuple[None, None, None]


class State(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The levels of a scope's buckets at a moment, in seconds of Redis' clock."""

    at_s: float
    levels: Levels


class Demand(msgspec.Struct, frozen=True, gc=False):
    """What a call takes from each scope."""

    requests: float
    tokens: float

    def amounts(self) -> Levels:
        """Return the amounts in the order of `WORDS`."""
        return (self.requests, self.requests, self.tokens, self.tokens)


def figures_of(limits: Limits) -> Figures:
    """Return the four rates of a set of limits."""
    return (limits.rpm or 0, limits.rpd or 0, limits.tpm or 0, limits.tpd or 0)


def refilled(state: State, figures: Figures, now_s: float) -> Levels:
    """Return the levels now. A clock that went back refills nothing."""
    elapsed_s = max(0.0, now_s - state.at_s)
    one, two, three, four = (
        min(figure, level + elapsed_s * figure / period_s) if figure else math.inf
        for level, figure, period_s in zip(state.levels, figures, PERIODS_S, strict=True)
    )
    return (one, two, three, four)


def fits(levels: Levels, figures: Figures, demand: Demand) -> bool:
    """Return whether every bucket holds what is asked, or is full and could never hold it."""
    return all(
        level + ROUNDING >= min(amount, figure)
        for level, figure, amount in zip(levels, figures, demand.amounts(), strict=True)
        if figure
    )


def moved(levels: Levels, figures: Figures, change: Demand) -> Levels:
    """Return the levels with the change added (less than zero: taken); never above the figure."""
    one, two, three, four = (
        min(figure, level + amount) if figure else math.inf
        for level, figure, amount in zip(levels, figures, change.amounts(), strict=True)
    )
    return (one, two, three, four)


def full_in_s(levels: Levels, figures: Figures) -> float:
    """Return the seconds until every bucket is full again."""
    return max(_reset_s(*rate) for rate in _rates(levels, figures))


def standing_of(
    pairs: Sequence[tuple[Figures, Levels]], *, share: int = 1, local: bool = False
) -> Standing:
    """Return what is left of the tightest rates, divided by the processes that share them."""
    left_requests, reset_requests_s, limit_requests = _tightest(pairs, (0, 1), share)
    left_tokens, reset_tokens_s, limit_tokens = _tightest(pairs, (2, 3), share)
    return Standing(
        limit_requests=limit_requests,
        remaining_requests=left_requests,
        reset_requests_s=reset_requests_s,
        limit_tokens=limit_tokens,
        remaining_tokens=left_tokens,
        reset_tokens_s=reset_tokens_s,
        local=local,
    )


def _tightest(
    pairs: Sequence[tuple[Figures, Levels]], buckets: tuple[int, int], share: int
) -> _Left | _Unlimited:
    """Return the rate that has least left; of such the one that is whole soonest."""
    least: _Left | None = None
    for figures, levels in pairs:
        for bucket in buckets:
            figure = figures[bucket]
            if not figure:
                continue
            level = levels[bucket]
            share_left = (level + ROUNDING) / share
            left = int(share_left) if share_left > 0 else 0
            if least is None or left <= least[0]:
                short = figure - level
                reset_s = short * PERIODS_S[bucket] / figure if short > 0 else 0.0
                rate = (left, reset_s, figure)
                if least is None or rate < least:
                    least = rate
    return (None, None, None) if least is None else least


def undone(standing: Standing, *, tokens: int) -> Standing:
    """Return what is left once a call that the standing counts, of so many tokens, is undone.

    Tokens of an empty bucket stay at none: it may be in debt, which a standing does not tell.
    """
    left_requests, reset_requests_s = _fuller(
        standing.limit_requests, standing.remaining_requests, standing.reset_requests_s, 1
    )
    left_tokens, reset_tokens_s = standing.remaining_tokens, standing.reset_tokens_s
    if left_tokens:
        left_tokens, reset_tokens_s = _fuller(
            standing.limit_tokens, left_tokens, reset_tokens_s, tokens
        )
    return msgspec.structs.replace(
        standing,
        remaining_requests=left_requests,
        reset_requests_s=reset_requests_s,
        remaining_tokens=left_tokens,
        reset_tokens_s=reset_tokens_s,
    )


def _fuller(
    limit: int | None, left: int | None, reset_s: float | None, amount: int
) -> tuple[int | None, float | None]:
    if limit is None or left is None or reset_s is None or left >= limit:
        return left, reset_s
    fuller = min(limit, left + amount)
    return fuller, reset_s * (limit - fuller) / (limit - left)


def refusal(
    rows: Iterable[tuple[Scope, Levels, int]], demand: Demand, standing: Standing, *, share: int = 1
) -> RateLimitExceeded:
    """Return the error of a refused call: it names the limit with the longest wait.

    Each row is a scope with its levels and the slots in use.
    """
    wait_s, what, source = 0.0, "A limit", ""
    for scope, levels, used in rows:
        rates = zip(
            _rates(levels, figures_of(scope.limits)), demand.amounts(), WORDS, NAMES, strict=True
        )
        for (level, figure, period_s), amount, word, name in rates:
            short_s = (min(amount, figure) - level) * period_s / figure if figure else 0.0
            if short_s > wait_s:
                wait_s, what = short_s, f"The limit of {figure} {word} for {scope.name}"
                source = f"{scope.name}/{name}"
        if not slot_fits(scope.limits, used, share=share) and wait_s < SLOT_WAIT_S:
            wait_s = SLOT_WAIT_S
            what = f"The limit of {scope.limits.concurrency} concurrent calls for {scope.name}"
            source = f"{scope.name}/concurrency"
    wait_s = max(wait_s, 0.001)
    return RateLimitExceeded(
        f"{what} is reached; try again in {wait_s:.3g} s.",
        retry_after_s=wait_s,
        limit_source=source,
        standing=standing,
    )


def slot_fits(limits: Limits, used: int, *, share: int = 1) -> bool:
    """Return whether one more call may run beside `used`; a share always has room for one."""
    if limits.concurrency is None:
        return True
    return used == 0 or (used + 1) * share <= limits.concurrency


def _rates(levels: Levels, figures: Figures) -> list[tuple[float, int, float]]:
    return list(zip(levels, figures, PERIODS_S, strict=True))


def _reset_s(level: float, figure: int, period_s: float) -> float:
    return max(0.0, figure - level) * period_s / figure if figure else 0.0
