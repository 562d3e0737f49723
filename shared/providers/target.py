"""Something one can call: a provider's model with a named credential."""

from collections.abc import Mapping
from typing import Literal

import msgspec


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A resolved target of a route. `credential` is a name; the secret stays with the provider.

    `unsupported` is the route's word about what the target cannot do.
    """

    provider: str
    model: str
    credential: str = "default"
    weight: int = 1
    params: Mapping[str, object] = {}
    headers: Mapping[str, str] = {}
    unsupported: Literal["drop", "error"] = "drop"

    @property
    def name(self) -> str:
        """`provider/model`, for people and logs."""
        return f"{self.provider}/{self.model}"
