"""What may stand in the queue: one task whose only parameter is a topic, never a payload.

Workers and the API do not import each other; these names are the contract between them. Never
rename an actor: old messages name it.
"""

from typing import Literal

import msgspec

QUEUE = "doorbell"
RING = "ring"

DELIVERIES = "deliveries"
"""The topic that says: webhook deliveries are due."""

BATCHES = "batches"
"""The topic that says: a batch is to be looked at."""

CLASSES: tuple[Literal["interactive"], Literal["default"], Literal["batch"]] = (
    "interactive",
    "default",
    "batch",
)
"""The priorities of jobs, the most urgent first."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A message kind: the actor that takes it and the names of its parameters."""

    actor: str
    queue: str
    parameters: tuple[str, ...]


TASKS = (Task(actor=RING, queue=QUEUE, parameters=("topic",)),)
"""Every kind there is. One actor each, which a test proves."""


def jobs_topic(job_class: str) -> str:
    """Return the topic that says: jobs of this class wait."""
    return f"jobs:{job_class}"


TOPICS = frozenset({DELIVERIES, BATCHES, *(jobs_topic(name) for name in CLASSES)})
"""Every topic. Anything else in a message is an old or broken sender's and is ignored."""
