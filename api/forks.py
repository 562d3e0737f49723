"""Several API processes on one socket: a parent forks them and starts the dead again."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

import msgspec

from shared.clock import SystemClock
from shared.lifeline import lifeline, stop_signals
from shared.telemetry.folder import retire
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import PROCESS_DEATHS

log = get_logger("api")

LOOK_S = 0.1
PAUSE_S = 1.0
"""Between a death and the next start in its place."""
DEATHS = 5
WITHIN_S = 60.0
"""So many deaths in one place within so many seconds will not be mended by one more start."""
CLOSING_S = 10.0
"""For a child to flush its books and let go of its connections, after its grace."""


class _Place(msgspec.Struct, kw_only=True):
    """Room for one child, and when the ones that stood there died."""

    pid: int | None = None
    due_s: float = 0.0
    deaths: list[float] = msgspec.field(default_factory=list)

    def look(self, now_s: float) -> None:
        """Take note if the child has died."""
        status = None if self.pid is None else _ended(self.pid)
        if status is None:
            return
        code = os.waitstatus_to_exitcode(status)
        log.error("api.child_died", pid=self.pid, code=code)
        PROCESS_DEATHS.labels("api").inc()
        retire(self.pid)
        self.pid = None
        self.due_s = now_s + PAUSE_S
        self.deaths = [at_s for at_s in self.deaths if now_s - at_s < WITHIN_S] + [now_s]


def supervise_forks(
    serve: Callable[[], None], processes: int, *, grace_s: float, on_stop: Callable[[], None]
) -> int:
    """Keep `processes` forks that call `serve` running until a signal; return the exit code.

    A child that dies is replaced a second later. When five die in one place within a minute the
    rest are stopped and the code is 1: the reason stands in their logs. Signals to stop are
    passed on, each time; what is still alive ten seconds after `grace_s` is killed. `on_stop` is
    called first. The children get a SIGTERM when this process is killed (on Linux).
    """
    clock, signals = SystemClock(), list[int]()
    for number in stop_signals():
        signal.signal(number, lambda heard, _frame: signals.append(heard))
    hold = lifeline(signal.SIGTERM)
    places = [_Place() for _ in range(processes)]
    try:
        while not signals:
            now_s = clock.monotonic()
            for place in places:
                place.look(now_s)
            if any(len(place.deaths) >= DEATHS for place in places):
                log.critical("api.gave_up", deaths=DEATHS, within_s=WITHIN_S)
                return 1
            for place in places:
                if place.pid is None and place.due_s <= now_s:
                    place.pid = _forked(serve, hold)
            _nap()
    finally:
        on_stop()
        _stop([place.pid for place in places if place.pid is not None], signals, grace_s)
    return 0


def _forked(serve: Callable[[], None], hold: Callable[[], None]) -> int:
    """Fork; return the child's process id. The child never returns."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        for number in stop_signals():
            signal.signal(number, signal.SIG_DFL)  # ours would only take a note
        os.setsid()  # a Ctrl-C must reach it once, through its parent
        hold()
        serve()
        code = 0
    except BaseException:
        log.exception("api.failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _stop(pids: Sequence[int], signals: Sequence[int], grace_s: float) -> None:
    """Tell them to stop, once and again for each further signal, and wait until they are gone."""
    left, waited_s, passed_on = list(pids), 0.0, 0
    while left:
        if passed_on < max(1, len(signals)):
            passed_on = max(1, len(signals))
            _tell(left, signal.SIGTERM)
        if waited_s > grace_s + CLOSING_S:
            _tell(left, signal.SIGKILL)
        _nap()
        waited_s += LOOK_S
        left = [pid for pid in left if _ended(pid) is None]


def _tell(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)  # not waited for yet, so the number is still its own


def _ended(pid: int) -> int | None:
    """Return the wait status of a child that is gone, None of one that runs."""
    gone, status = os.waitpid(pid, os.WNOHANG)
    return status if gone else None


def _nap() -> None:
    threading.Event().wait(LOOK_S)
