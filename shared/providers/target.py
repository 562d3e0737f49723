"""Something one can call: a provider's model with a named credential."""

from collections.abc import Mapping
from typing import Literal

import msgspec


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A resolved target of a route. `credential` is a name; the secret stays with the provider.

    `base_model` is what the model is, where its name does not tell. `capabilities` are the
    operator's word about what it can do, by name; `unsupported` is the route's about what it can
    not.
    """

    provider: str
    model: str
    base_model: str | None = None
    credential: str = "default"
    weight: int = 1
    params: Mapping[str, object] = {}
    headers: Mapping[str, str] = {}
    capabilities: Mapping[str, bool] = {}
    unsupported: Literal["drop", "error"] = "drop"

    @property
    def name(self) -> str:
        """`provider/model`, for people and logs."""
        return f"{self.provider}/{self.model}"

    @property
    def known_as(self) -> str:
        """The name by which lists of prices and abilities know the model."""
        return self.base_model or self.model
