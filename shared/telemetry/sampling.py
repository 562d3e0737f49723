"""Which requests are logged when not all of them are. Pure."""

from zlib import crc32


def sampled(request_id: str, rate: float) -> bool:
    """Return whether the request is of the logged share, 0 to 1.

    By its id, so that every line and every process says the same of one request.
    """
    return rate >= 1.0 or crc32(request_id.encode()) < rate * 0x1_0000_0000
