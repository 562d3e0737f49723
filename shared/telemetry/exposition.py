"""What Prometheus reads: the metrics of this process, or of all processes that serve together."""

import os

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector

from shared.telemetry.metrics import REGISTRY

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which prometheus-client itself is told to keep its numbers in files.

It must be set before that library is first imported; whoever starts several processes does so.
"""

_process = CollectorRegistry()
ProcessCollector(registry=_process)


def exposed() -> tuple[bytes, str]:
    """Return the text exposition and its content type.

    Where several processes share a folder the numbers are theirs together; memory and CPU are
    then left out, which differ from one to the next.
    """
    folder = os.environ.get(SHARED_FOLDER)
    if folder is None:
        return generate_latest(REGISTRY) + generate_latest(_process), CONTENT_TYPE_LATEST
    together = CollectorRegistry()
    MultiProcessCollector(together, path=folder)  # type: ignore[no-untyped-call]
    return generate_latest(together), CONTENT_TYPE_LATEST
