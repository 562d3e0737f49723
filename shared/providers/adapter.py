"""The port to a vendor: turns a request for a target into one attempt's Exchange."""

import abc
from collections.abc import Sequence

from shared.config.model import ProviderConfig
from shared.providers.exchange import Exchange
from shared.providers.request import InferenceRequest
from shared.providers.target import Target


class Adapter(abc.ABC):
    """One kind of provider: its host, auth, dialect and quirks.

    `kind` is that of the config file. `needs_key`: a call without a credential cannot succeed.
    `needs_base_url`: only the config can say where to call.
    """

    kind: str
    needs_key: bool = True
    needs_base_url: bool = False

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

    def fetches(self, _request: InferenceRequest, _target: Target) -> Sequence[str]:
        """Return the URLs in the request that the gateway must fetch, because this provider cannot.

        They are in `request.files` when `exchange` is called.
        """
        return ()
