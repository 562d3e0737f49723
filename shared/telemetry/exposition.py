"""What Prometheus reads: the metrics of this process, or of all processes that serve together."""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from typing_extensions import override

from shared.telemetry.folder import VARIABLE, locked, readable
from shared.telemetry.metrics import REGISTRY
from shared.telemetry.tally import count_waiting

_process = CollectorRegistry()
ProcessCollector(registry=_process)


class _Together(Collector):
    """The sum of a shared folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @override
    def collect(self) -> Iterable[Metric]:
        with locked(self._folder, fcntl.LOCK_SH):
            files = readable(self._folder)
            found: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return found


def exposed() -> tuple[bytes, str]:
    """Return the text exposition and its content type; reads files, so call it in a thread.

    Where several processes share a folder the numbers are theirs together, those of others up to
    a quarter of a second old; memory and CPU are then left out, which differ from one to the next.
    """
    count_waiting()
    folder = os.environ.get(VARIABLE)
    if folder is None:
        return generate_latest(REGISTRY) + generate_latest(_process), CONTENT_TYPE_LATEST
    together = CollectorRegistry(auto_describe=False)
    together.register(_Together(Path(folder)))
    return generate_latest(together), CONTENT_TYPE_LATEST
