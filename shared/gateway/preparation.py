"""What some calls wait for before they can be made: credentials, and files at URLs.

Nothing of it is billed and none of it reaches the target, so it happens before the books open.
"""

import msgspec

from shared.clock import Clock
from shared.errors import FailureKind, UpstreamError
from shared.gateway.catalog import Provider
from shared.gateway.files import Fetcher, NotFetched
from shared.providers.exchange import Transport
from shared.providers.request import FetchedFile, InferenceRequest
from shared.providers.target import Target

MOST_S = 30.0
"""For all of it together, and never more than the attempt has left."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A request with its files, and the credential that was obtained for it."""

    request: InferenceRequest
    secret: str | None = None


class Preparation:
    """Prepares the attempts of one request; what has been fetched for one serves the next."""

    def __init__(self, transport: Transport, clock: Clock, fetcher: Fetcher | None) -> None:
        self._transport = transport
        self._clock = clock
        self._fetcher = fetcher
        self._files: dict[str, FetchedFile] = {}

    async def prepare(
        self, provider: Provider, request: InferenceRequest, target: Target, limit_s: float
    ) -> Prepared:
        """Return what the call needs, within `limit_s` seconds.

        Raises:
            NotFetched: a URL of the caller could not be fetched.
            InvalidRequest: the body is not of its dialect's form.
            UpstreamError: not sent; no credential is to be had, or it took too long.
        """
        allowed_s = min(limit_s, MOST_S)
        try:
            async with self._clock.timeout(allowed_s):
                request = await self._with_files(provider, request, target)
                secret = await self._secret(provider, target)
        except TimeoutError as error:
            raise UpstreamError(
                FailureKind.TIMEOUT,
                f"Preparing the call to {target.name} took more than {allowed_s:g} s.",
                sent=False,
            ) from error
        return Prepared(request=request, secret=secret)

    async def _secret(self, provider: Provider, target: Target) -> str | None:
        if provider.authorizer is None:
            return None
        return await provider.authorizer.secret(
            provider.secret(target), transport=self._transport, clock=self._clock
        )

    async def _with_files(
        self, provider: Provider, request: InferenceRequest, target: Target
    ) -> InferenceRequest:
        urls = provider.adapter.fetches(request, target)
        if not urls:
            return request
        missing = [url for url in dict.fromkeys(urls) if url not in self._files]
        if missing:
            if self._fetcher is None:
                raise NotFetched(
                    f"{target.name} takes no URLs; send the content itself.", param="messages"
                )
            self._files.update(await self._fetcher.fetch(missing))
        files = {url: self._files[url] for url in urls}
        return msgspec.structs.replace(request, files=files)
