"""Objects in a bucket of Amazon S3, or of what speaks its API: MinIO, R2, Ceph, LocalStack.

Credentials come from AWS's own chain. botocore blocks, so it runs in threads.
"""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, TypeVar

import msgspec

from shared.errors import ObjectsUnavailable
from shared.objects.keys import checked
from shared.objects.port import ObjectMissing
from shared.objects.threads import PIECE_BYTES, Threads, regrouped

T = TypeVar("T")

THREADS = 16
PART_BYTES = 8 * 1024 * 1024
"""What one upload holds in memory; S3 takes 10,000 parts of at least 5 MiB."""
CONNECT_S = 5
READ_S = 20
TRIES = 3
DEFAULT_REGION = "us-east-1"
_MISSING = frozenset({"NoSuchKey", "404"})
_BEYOND_THE_END = "InvalidRange"


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """Where the objects lie. `endpoint` is a URL, None for AWS's own; `prefix` ends in no slash."""

    name: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None


class S3Objects:
    """Objects in a bucket, which must exist.

    An object above 8 MiB goes up in parts. A process that dies between them leaves parts that are
    billed and seen by nobody: a lifecycle rule (AbortIncompleteMultipartUpload) removes them.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._threads = Threads(THREADS)
        self._lock = threading.Lock()
        self._client: Any = None

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        """Store what the iterator yields, holding one part at a time; return its size in bytes."""
        place = self._place(key)
        async with aclosing(regrouped(pieces, PART_BYTES)) as parts:
            first = await anext(parts, b"")
            if len(first) == PART_BYTES:
                return await self._put_parts(place, first, parts)
        await self._do(lambda: self._s3().put_object(**place, Body=first))
        return len(first)

    async def _put_parts(
        self, place: dict[str, str], part: bytes, more: AsyncIterator[bytes]
    ) -> int:
        begun = await self._do(lambda: self._s3().create_multipart_upload(**place))
        upload = {**place, "UploadId": str(begun["UploadId"])}
        tags: list[dict[str, object]] = []
        try:
            size = len(part)
            tags.append(await self._put_part(upload, 1, part))
            async for part in more:  # noqa: PLR1704 (only one of them is to be in memory)
                size += len(part)
                tags.append(await self._put_part(upload, len(tags) + 1, part))
            await self._do(
                lambda: self._s3().complete_multipart_upload(
                    **upload, MultipartUpload={"Parts": tags}
                )
            )
        except BaseException:
            with suppress(ObjectsUnavailable):
                await self._do(lambda: self._s3().abort_multipart_upload(**upload))
            raise
        return size

    async def _put_part(
        self, upload: dict[str, str], number: int, part: bytes
    ) -> dict[str, object]:
        done = await self._do(
            lambda: self._s3().upload_part(**upload, PartNumber=number, Body=part)
        )
        return {"PartNumber": number, "ETag": done["ETag"]}

    async def get(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to, without, `end`.

        Raises:
            ObjectMissing: there is no such object.
        """
        body = await self._do(partial(self._open, key, start, end))
        if body is None:
            return
        try:
            while piece := await self._do(partial(body.read, PIECE_BYTES)):
                yield piece
        finally:
            body.close()

    async def delete(self, key: str) -> None:
        """Delete the object; nothing happens when there is none."""
        place = self._place(key)
        await self._do(lambda: self._s3().delete_object(**place))

    async def aclose(self) -> None:
        """Let go of threads and connections."""
        self._threads.close()
        if self._client is not None:
            self._client.close()

    def _open(self, key: str, start: int, end: int | None) -> Any:  # noqa: ANN401 (botocore's)
        from botocore.exceptions import ClientError

        place = self._place(key)
        try:
            if end is not None and end <= start:
                self._s3().head_object(**place)
                return None
            last = "" if end is None else end - 1
            asked = {} if start == 0 and end is None else {"Range": f"bytes={start}-{last}"}
            return self._s3().get_object(**place, **asked)["Body"]
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if code in _MISSING:
                raise ObjectMissing(key) from error
            if code == _BEYOND_THE_END:
                return None
            raise

    def _place(self, key: str) -> dict[str, str]:
        prefix = f"{self._bucket.prefix}/" if self._bucket.prefix else ""
        return {"Bucket": self._bucket.name, "Key": prefix + checked(key)}

    def _s3(self) -> Any:  # noqa: ANN401 (botocore has no types)
        """Return the client. It is made by the first thread that needs it: that takes 100 ms."""
        with self._lock:
            if self._client is None:
                self._client = _connected(self._bucket)
            return self._client

    async def _do(self, work: Callable[[], T]) -> T:
        return await self._threads.run(partial(_translated, work))


def _translated(work: Callable[[], T]) -> T:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return work()
    except (BotoCoreError, ClientError) as error:
        raise ObjectsUnavailable(f"The bucket of objects cannot be used: {error}") from error


def _connected(bucket: Bucket) -> Any:  # noqa: ANN401
    from botocore.config import Config
    from botocore.session import Session

    session = Session()
    region = bucket.region or session.get_config_variable("region") or DEFAULT_REGION
    return session.create_client(
        "s3",
        region_name=region,
        endpoint_url=bucket.endpoint,
        config=Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"total_max_attempts": TRIES, "mode": "standard"},
            max_pool_connections=THREADS,
            # Others than AWS rarely serve buckets as host names, and know fewer checksums.
            s3={"addressing_style": "path" if bucket.endpoint else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
