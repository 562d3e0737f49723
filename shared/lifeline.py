"""What ends a process: signals, and the death of its parent, told by the kernel."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return what tells this process to end in order.

    An orchestrator's, a person's, and that of a terminal that closes, unless `nohup` hides it.
    """
    hidden = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return signal.SIGTERM, signal.SIGINT, *(() if hidden else (signal.SIGHUP,))


def lifeline(number: signal.Signals) -> Callable[[], None]:
    """Return what a child of this process calls first: it gets `number` when we are gone.

    Make it before the fork. Linux means the death of the thread that started the child, so start
    children from one that lives as long as the process. Elsewhere the call does nothing.
    """
    if sys.platform != "linux":
        return lambda: None
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl  # found before the fork: little is safe after it

    def hold() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return hold
