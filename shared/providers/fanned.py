"""One attempt that takes several calls, because the provider does too little at a time."""

from abc import abstractmethod
from collections.abc import Sequence

from shared.providers.exchange import HttpRequest, HttpResponse, Reply

MOST_AT_ONCE = 8
"""Calls of one attempt that run beside each other."""


class FannedExchange:
    """What an Exchange inherits from when its question may be asked in several parts.

    All parts must succeed; the first failure fails the attempt. Every call is looked at for it, so
    that it is no ABC, whose look takes five times as long.
    """

    requests: Sequence[HttpRequest]

    @abstractmethod
    def read_all(self, responses: Sequence[HttpResponse]) -> Reply:
        """Turn the 2xx answers, in the order of `requests`, into one.

        Raises:
            UpstreamError: as `Exchange.read`.
        """
