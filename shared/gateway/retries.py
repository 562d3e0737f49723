"""Whether a chain may make one more call: what the route's budget for that says."""

from shared.attempts.retry_budget import RetryBudget
from shared.clock import Clock
from shared.health.book import HealthBook
from shared.routing.plan import Plan, Step
from shared.telemetry.metrics import RETRIES_REFUSED


class Allowances:
    """Keeps what each route has asked and asked again of late. One per process.

    An outage makes every request ask again, all at once: that would multiply the load on what is
    down already. Going on to a target that is fit multiplies nothing, so it is counted only.
    """

    def __init__(self, clock: Clock, health: HealthBook) -> None:
        self._clock = clock
        self._health = health
        self._routes: dict[str, RouteAllowance] = {}  # by the file's name of the route

    def of(self, plan: Plan) -> "RouteAllowance":
        """Count a request and return what it may do beyond its first call."""
        found = self._routes.get(plan.configured)
        if found is None:
            budget = RetryBudget(plan.retry_share)
            found = RouteAllowance(budget, self._clock, self._health)
            self._routes[plan.configured] = found
        found.budget.share = plan.retry_share  # another one after a reload
        found.budget.asked(self._clock.monotonic())
        return found


class RouteAllowance:
    """An `Allowance` out of a route's budget; what it lets through is counted."""

    __slots__ = ("_clock", "_health", "budget")

    def __init__(self, budget: RetryBudget, clock: Clock, health: HealthBook) -> None:
        self.budget = budget
        self._clock = clock
        self._health = health

    def again(self, step: Step) -> bool:
        """Return whether the target may be asked once more, or another beside it (a hedge)."""
        now_s = self._clock.monotonic()
        if not self.budget.allows(now_s):
            RETRIES_REFUSED.labels(step.target.provider).inc()
            return False
        self.budget.spend(now_s)
        return True

    def onward(self, step: Step) -> bool:
        """Return whether the chain may go on to this target after another one has failed."""
        if not self._health.is_fit(step.target):
            return self.again(step)
        self.budget.spend(self._clock.monotonic())
        return True
