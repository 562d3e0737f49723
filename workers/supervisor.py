"""Several worker processes under one: starts them, starts the dead again, stops them all."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType

import msgspec

from shared.lifeline import lifeline, stop_signals
from shared.store.claims import release_owner
from shared.store.engine import open_store
from shared.store.gate import refuse_old_schema
from shared.telemetry.folder import retire
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import PROCESS_DEATHS

LOOK_S = 0.2
CLOSING_S = 10.0
"""For a child to give back its jobs and let go of its connections."""
MOST_OFTEN_S = 1.0
"""A child that dies at once is started again once a second, not in a spin."""

log = get_logger(__name__)


class _Child(msgspec.Struct, kw_only=True):
    owner: str
    process: "subprocess.Popen[bytes]"


def supervise(
    processes: int, arguments: Sequence[str], *, grace_s: float, database_url: str
) -> int:
    """Keep `processes` children of `sluiceway ARGUMENTS` running until a signal; return 0.

    A child that dies is replaced within about a second, its leases end at once. The first
    signal to stop is passed on and waited for, the second too; what is still alive ten
    seconds after `grace_s` is killed. When this process is killed, its children get a SIGTERM (on
    Linux).

    Raises:
        SchemaBehind: `sluiceway migrate` has to run first; nothing was started.
    """
    refuse_old_schema(database_url)
    heard = threading.Event()
    signals: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        heard.set()

    for number in stop_signals():
        signal.signal(number, on_signal)
    hold = lifeline(signal.SIGTERM)
    children: list[_Child] = []
    pause_s = LOOK_S
    try:
        children.extend(_start(arguments, hold) for _ in range(processes))
        while not heard.wait(pause_s):
            dead = [child for child in children if child.process.poll() is not None]
            for child in dead:
                log.warning("worker.died", owner=child.owner, code=child.process.returncode)
                PROCESS_DEATHS.labels("worker").inc()
                retire(child.process.pid)
                release_leases(database_url, child.owner)
                children[children.index(child)] = _start(arguments, hold)
            pause_s = MOST_OFTEN_S if dead else LOOK_S
    finally:
        _stop([child.process for child in children], signals, heard, grace_s)
    return 0


def release_leases(database_url: str, owner: str) -> int:
    """End the leases of a process that is known to be dead, so that caretakers act at once.

    Returns how many there were; 0 when that failed (they then run out by themselves).
    """

    async def release() -> int:
        store = await open_store(database_url)
        try:
            async with store.write() as tx:
                return await release_owner(tx, owner)
        finally:
            await store.close()

    try:
        return asyncio.run(release())
    except Exception as error:  # noqa: BLE001 (the other children must live on)
        log.warning("worker.leases_left", owner=owner, why=str(error))
        return 0


def _start(arguments: Sequence[str], hold: Callable[[], None]) -> _Child:
    owner = f"worker-{socket.gethostname()[:24]}-{os.urandom(6).hex()}"
    process = subprocess.Popen(  # noqa: S603 (our own program)
        # -P: the caller's folder, where another `api/` may lie, stays off the import path.
        [sys.executable, "-P", "-m", "compose.cli", *arguments],
        # Their supervisor answers for all of them on the one port there is.
        env={**os.environ, "SLUICEWAY_PROCESS_ID": owner, "SLUICEWAY_METRICS_PORT": ""},
        start_new_session=True,  # a Ctrl-C must reach it once, through us
        preexec_fn=hold,  # noqa: PLW1509 (it calls the kernel, no more)
    )
    return _Child(owner=owner, process=process)


def _stop(
    processes: Sequence["subprocess.Popen[bytes]"],
    signals: list[int],
    heard: threading.Event,
    grace_s: float,
) -> None:
    passed_on = 0
    waited_s = 0.0
    while any(process.poll() is None for process in processes):
        if passed_on < max(1, len(signals)):  # without a signal we are stopping for an error
            passed_on = max(1, len(signals))
            _tell(processes, signal.SIGTERM)
        if waited_s > grace_s + CLOSING_S:
            _tell(processes, signal.SIGKILL)
        heard.clear()
        heard.wait(LOOK_S)
        waited_s += LOOK_S


def _tell(processes: Sequence["subprocess.Popen[bytes]"], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)
