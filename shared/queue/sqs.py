"""The doorbell over Amazon SQS: Dramatiq's broker for it, and what that lacks.

A message lives for milliseconds, from the long poll that takes it to the actor that wakes the
loop. So a short visibility is enough, and the ten messages a process may hold are plenty. Poison
is never deleted: the queue's own redrive policy moves it to the dead-letter queue.
"""

import json
import threading
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import boto3
import dramatiq
import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import Callbacks, CurrentMessage
from dramatiq_sqs import SQSBroker
from typing_extensions import override

from shared.queue.ringing import BrokerBell, ring_message
from shared.queue.tasks import QUEUE
from shared.telemetry.log import get_logger

RING_GAP_S = 0.1
"""SQS bills each request, so a process sends ten times a second at most."""
WAIT_S = 1
"""Of a long poll, which ends at once when a message comes; a stop waits for it."""
HIDDEN_S = 60
"""How long a message stays with the process that took it and died."""
KEPT_S = 900
"""A ring that is older tells nothing: workers have looked by themselves since."""
DEAD_KEPT_S = 14 * 86400
"""SQS's longest, for whoever looks what was wrong with a message."""
MOST_RECEIVES = 5
"""So often a message is taken before it is dead."""
AT_ONCE = 10
"""What SQS takes in one request."""

T = TypeVar("T")

log = get_logger(__name__)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the queue lies. `endpoint` is a URL, None for AWS's own; `prefix` begins its name."""

    region: str
    endpoint: str | None = None
    prefix: str = "sluiceway"


def place_of(url: str) -> Place:
    """Return what `sqs://REGION?endpoint=URL&prefix=NAME` says; the settings have checked it."""
    parts = urlsplit(url)
    return Place(region=parts.netloc, **dict(parse_qsl(parts.query)))


def sqs_bell(url: str) -> BrokerBell:
    """Return the bell that rings there. Talks to nobody yet."""
    broker = SqsDoorbell(place_of(url), _patience(connect_s=1.0, read_s=2.0))
    return BrokerBell(broker.send, broker.close, gap_s=RING_GAP_S)


def build_broker(url: str) -> "SqsDoorbell":
    """Return the broker a worker consumes with. Talks to nobody yet."""
    return SqsDoorbell(place_of(url), _patience(connect_s=1.0, read_s=WAIT_S + 3.0))


def sqs_answers(url: str) -> bool:
    """Return whether SQS answers us within a second; blocks that long."""
    try:
        _probe(url).queue_there()
    except ConnectionClosed:
        return False
    return True  # the first ring makes a queue that is missing


@lru_cache(maxsize=4)
def _probe(url: str) -> "SqsDoorbell":
    return SqsDoorbell(place_of(url), _patience(connect_s=0.5, read_s=0.5, tries=1))


def _patience(*, connect_s: float, read_s: float, tries: int = 2) -> Config:
    """Return how long and often to try; twice for a connection that SQS closed while idle."""
    retries = {"mode": "standard", "total_max_attempts": tries}
    return Config(connect_timeout=connect_s, read_timeout=read_s, retries=retries)


class SqsDoorbell(SQSBroker):  # type: ignore[misc]
    """Dramatiq's SQS broker: makes its queue when it is missing, and sends in groups.

    Credentials come from AWS's own chain, and are looked for again when there were none. Trouble
    with SQS is Dramatiq's ConnectionClosed, after which consumers connect again by themselves.
    """

    def __init__(self, place: Place, config: Config) -> None:
        self._options: dict[str, Any] = {
            "region_name": place.region,
            "endpoint_url": place.endpoint,
            "config": config,
        }
        self._unsigned = False
        super().__init__(
            namespace=place.prefix,
            middleware=[CurrentMessage(), Callbacks()],
            retention=KEPT_S,
            **self._options,
        )
        self.declare_queue(QUEUE)

    def send(self, topics: Sequence[str]) -> None:
        """Send a message for each topic, ten per request.

        The topic is the message group, so that on a fair queue a busy one does not delay others.

        Raises:
            ConnectionClosed: SQS did not take them, or not all.
        """
        with self.asking():
            self._ensure_queue(QUEUE)
            for group in _grouped(topics):
                answer = self.queues[QUEUE].send_messages(Entries=_entries(group))
                if refused := answer.get("Failed"):
                    raise _closed(RuntimeError(refused[0].get("Message")))

    def queue_there(self) -> bool:
        """Return whether the queue has been made.

        Raises:
            ConnectionClosed: SQS did not say.
        """
        with self.asking():
            return self._found(f"{self.namespace}_{QUEUE}") is not None

    @override
    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 0) -> dramatiq.Consumer:
        with self.asking():
            self._ensure_queue(queue_name)
        return _Consumer(self, self.queues[queue_name], min(prefetch, AT_ONCE))

    @override
    def close(self) -> None:
        self.sqs.meta.client.close()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Turn trouble with SQS in the block into ConnectionClosed."""
        if self._unsigned:  # a client looks for credentials once
            self.sqs = boto3.session.Session().resource("sqs", **self._options)
            self._unsigned = False
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            self.queues.clear()  # the queue may be gone, too
            self._unsigned = isinstance(error, NoCredentialsError)
            raise _closed(error) from error

    @override
    def _get_or_create_sqs_queue(
        self,
        sqs_queue_name: str,
        *,
        message_retention_period: int,
        tags: dict[str, str] | None = None,
    ) -> Any:
        """Return the queue as it is, or make it; several at once make the same."""
        if queue := self._found(sqs_queue_name):
            return queue
        dead_name = f"{sqs_queue_name}_dlq"
        dead = self._found(dead_name) or self.sqs.create_queue(
            QueueName=dead_name, Attributes={"MessageRetentionPeriod": str(DEAD_KEPT_S)}
        )
        redrive = {
            "deadLetterTargetArn": dead.attributes["QueueArn"],
            "maxReceiveCount": MOST_RECEIVES,
        }
        attributes = {
            "MessageRetentionPeriod": str(message_retention_period),
            "VisibilityTimeout": str(HIDDEN_S),
            "RedrivePolicy": json.dumps(redrive),
        }
        return self.sqs.create_queue(QueueName=sqs_queue_name, Attributes=attributes)

    def _found(self, name: str) -> Any:  # noqa: ANN401 (boto3 makes its classes at run time)
        try:
            return self.sqs.get_queue_by_name(QueueName=name)
        except self.sqs.meta.client.exceptions.QueueDoesNotExist:
            return None


class _Taken(dramatiq.MessageProxy):
    def __init__(self, message: "dramatiq.Message[Any]", receipt: str) -> None:
        super().__init__(message)
        self.receipt = receipt


class _Consumer(dramatiq.Consumer):
    """Takes messages by long polls. Counts by itself what is out, so that nothing starves it.

    The package's own consumer counts a message as out until its deletion succeeds, and sleeps
    between polls. Here a message is out until it is done; deletions are sent in groups before the
    next poll, and one that fails costs a ring that comes twice.
    """

    def __init__(self, broker: SqsDoorbell, queue: Any, prefetch: int) -> None:  # noqa: ANN401
        self._broker = broker
        self._queue = queue
        self._prefetch = prefetch
        self._ready: deque[_Taken] = deque()
        self._out: set[str] = set()
        self._done: list[str] = []
        self._changed = threading.Condition()

    @override
    def __next__(self) -> _Taken | None:
        if not self._ready:
            self._delete_done()
            if room := self._room():
                self._receive(room)
        return self._ready.popleft() if self._ready else None

    @override
    def ack(self, message: dramatiq.MessageProxy) -> None:
        with self._changed:
            self._done.append(message.receipt)
        self.nack(message)

    @override
    def nack(self, message: dramatiq.MessageProxy) -> None:
        """Let it come again, to another worker perhaps, until it is dead."""
        with self._changed:
            self._out.discard(message.receipt)
            self._changed.notify()

    @override
    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        for group in _grouped(message.receipt for message in messages):
            entries = [{**entry, "VisibilityTimeout": 0} for entry in _receipts(group)]
            with self._broker.asking():
                self._queue.change_message_visibility_batch(Entries=entries)

    @override
    def close(self) -> None:
        self._delete_done()
        ready, self._ready = self._ready, deque()
        self.requeue(ready)

    def _room(self) -> int:
        """Return how many more may be out, waiting a moment for the first."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._out) < self._prefetch, timeout=0.2)
            return self._prefetch - len(self._out)

    def _receive(self, limit: int) -> None:
        with self._broker.asking():
            received = self._queue.receive_messages(
                MaxNumberOfMessages=limit, WaitTimeSeconds=WAIT_S, VisibilityTimeout=HIDDEN_S
            )
        for one in received:
            try:
                message = dramatiq.Message.decode(b64decode(one.body))
            except Exception as error:  # noqa: BLE001 (not ours: it may be anything)
                log.warning("broker.message_unreadable", error=type(error).__name__)
                continue
            self._ready.append(_Taken(message, one.receipt_handle))
            with self._changed:
                self._out.add(one.receipt_handle)

    def _delete_done(self) -> None:
        with self._changed:
            done, self._done = self._done, []
        for group in _grouped(done):
            try:
                failed = self._queue.delete_messages(Entries=_receipts(group)).get("Failed", ())
            except (BotoCoreError, ClientError):
                failed = group
            if failed:  # they come again
                log.warning("broker.delete_failed", messages=len(failed))


def _closed(error: Exception) -> ConnectionClosed:
    return ConnectionClosed(error)  # type: ignore[no-untyped-call]


def _entries(topics: Iterable[str]) -> list[dict[str, str]]:
    return [
        {
            "Id": str(number),
            "MessageBody": b64encode(ring_message(topic).encode()).decode(),
            "MessageGroupId": topic,
        }
        for number, topic in enumerate(topics)
    ]


def _receipts(receipts: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)
    ]


def _grouped(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while group := list(islice(rest, AT_ONCE)):
        yield group
