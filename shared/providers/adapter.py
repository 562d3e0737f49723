"""The port to a vendor: turns a request for a target into one attempt's Exchange."""

import abc
from collections.abc import Sequence
from typing import Protocol

from shared.clock import Clock
from shared.config.model import ProviderConfig
from shared.providers.exchange import Exchange, Transport
from shared.providers.request import InferenceRequest
from shared.providers.target import Target


class Authorizer(Protocol):
    """Obtains the credential of a provider that is not simply given one in the config.

    One for each configured provider, for as long as its config is in use; it keeps what it has
    obtained until shortly before that expires, for it stands before every call.
    """

    async def secret(self, secret: str | None, *, transport: Transport, clock: Clock) -> str:
        """Return what `Adapter.exchange` gets as its secret; `secret` is the config's, if any.

        Cancelled when the attempt's time is over; other calls may be waiting for the same.

        Raises:
            UpstreamError: `sent=False`; CREDENTIAL when there is none to be had.
        """

    def refused(self) -> None:
        """Take note that the provider did not accept the last one: obtain another next time."""


class Adapter(abc.ABC):
    """One kind of provider: its host, auth, dialect and quirks.

    `kind` is that of the config file. `needs_key`: a call without a credential cannot succeed.
    `needs_base_url`: only the config can say where to call. `counts_tokens`: it serves
    `/v1/messages/count_tokens`, free of charge.
    """

    kind: str
    needs_key: bool = True
    needs_base_url: bool = False
    counts_tokens: bool = False

    @abc.abstractmethod
    def exchange(
        self,
        provider: ProviderConfig,
        secret: str | None,
        request: InferenceRequest,
        target: Target,
    ) -> Exchange:
        """Return the conversation for one attempt, relayed or translated.

        Raises:
            UnsupportedParameter: this kind cannot serve the endpoint or dialect, or a parameter
                that its route does not let it drop.
            InvalidRequest: the body is not what its dialect says; `param` names the field.
        """

    def authorizer(self, _provider: ProviderConfig) -> Authorizer | None:
        """Return what obtains this provider's credentials, None where the config has them."""
        return None

    def fetches(self, _request: InferenceRequest, _target: Target) -> Sequence[str]:
        """Return the URLs in the request that the gateway must fetch, because this provider cannot.

        They are in `request.files` when `exchange` is called.
        """
        return ()
