"""Something one can call: a provider's model with a named credential."""

from collections.abc import Mapping

import msgspec


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A resolved target of a route. `credential` is a name; the secret stays with the provider."""

    provider: str
    model: str
    credential: str = "default"
    weight: int = 1
    params: Mapping[str, object] = {}
    headers: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """`provider/model`, for people and logs."""
        return f"{self.provider}/{self.model}"
