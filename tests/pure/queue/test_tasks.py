"""What may stand in the queue."""

from shared.config.conduct import CLASS_WEIGHTS
from shared.queue.tasks import BATCHES, CLASSES, DELIVERIES, TASKS, TOPICS, jobs_topic


def test_topics_are_the_classes_the_batches_and_the_deliveries():
    assert {BATCHES, DELIVERIES, "jobs:interactive", "jobs:default", "jobs:batch"} == TOPICS
    assert {jobs_topic(name) for name in CLASS_WEIGHTS} == TOPICS - {BATCHES, DELIVERIES}
    assert tuple(CLASS_WEIGHTS) == CLASSES


def test_messages_carry_a_topic_and_nothing_else():
    """Bodies, keys and prompts never lie in the broker."""
    assert [("topic",)] == [task.parameters for task in TASKS]
