"""The port to a vendor: turns a request for a target into one attempt's Exchange."""

from typing import Protocol

from shared.config.model import ProviderConfig
from shared.providers.exchange import Exchange
from shared.providers.request import InferenceRequest
from shared.providers.target import Target


class Adapter(Protocol):
    """One kind of provider: its host, auth, dialect and quirks."""

    @property
    def kind(self) -> str:
        """The `kind` of the config file."""

    @property
    def needs_key(self) -> bool:
        """Whether a call without a credential cannot succeed."""

    @property
    def needs_base_url(self) -> bool:
        """Whether only the config can say where to call."""

    def exchange(
        self,
        provider: ProviderConfig,
        secret: str | None,
        request: InferenceRequest,
        target: Target,
    ) -> Exchange:
        """Return the conversation for one attempt, relayed or translated.

        Raises:
            UnsupportedParameter: this kind cannot serve the endpoint or dialect.
        """
