"""SNS topics as receivers: boto3, in threads of its own.

Region and account stand in a topic's ARN, rights come from AWS's usual chain, and
`AWS_ENDPOINT_URL_SNS` leads elsewhere, such as to LocalStack.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any

from shared.webhooks.schedule import Outcome
from shared.webhooks.urls import topic_mistake

if TYPE_CHECKING:
    from botocore.client import BaseClient

THREADS = 8
"""Messages under way at a time; one takes tens of milliseconds."""
CONNECT_S = 3.0
READ_S = 10.0
"""Both below the time of an attempt: a thread cannot be stopped."""

FIFO = ".fifo"


class Topics:
    """Publishes to the topics that are `allowed`, see `topic_mistake`; nothing starts unused."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = tuple(allowed)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sns")
        self._lock = Lock()
        self._clients: dict[str, BaseClient] = {}

    async def publish(
        self, arn: str, body: bytes, attributes: Mapping[str, str], *, group: str, once: str
    ) -> Outcome:
        """Publish the body with its attributes; `group` and `once` order a FIFO topic.

        A refusal of SNS has its HTTP status, like that of any receiver.
        """
        mistake = topic_mistake(arn, self._allowed)
        if mistake is not None:
            return Outcome(error=f"refused: {arn} {mistake}")
        message: dict[str, Any] = {
            "TopicArn": arn,
            "Message": body.decode(),
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": text}
                for name, text in attributes.items()
            },
        }
        if arn.endswith(FIFO):
            message |= {"MessageGroupId": group, "MessageDeduplicationId": once}
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._publish, message)

    def _publish(self, message: dict[str, Any]) -> Outcome:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._client(message["TopicArn"].split(":")[3]).publish(**message)
        except ClientError as error:
            status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
            head = f"{error.response['Error'].get('Code')}: {error}".encode()[:1024]
            return Outcome(status_code=status, answer_head=head)
        except (BotoCoreError, ValueError) as error:
            return Outcome(error=f"{type(error).__name__}: {error}"[:500])
        status = answer["ResponseMetadata"]["HTTPStatusCode"]
        return Outcome(status_code=status, answer_head=answer["MessageId"].encode())

    def _client(self, region: str) -> "BaseClient":
        """Return the region's client; making one is slow and not for two threads at once."""
        from boto3.session import Session
        from botocore.config import Config

        with self._lock:
            if region not in self._clients:
                config = Config(
                    connect_timeout=CONNECT_S,
                    read_timeout=READ_S,
                    retries={"total_max_attempts": 1},  # the schedule is ours
                )
                self._clients[region] = Session().client("sns", region_name=region, config=config)
            return self._clients[region]

    def close(self) -> None:
        """Take no more; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
