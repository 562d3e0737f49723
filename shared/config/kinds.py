"""What a provider of each kind cannot do without; the registry of adapters says it."""

from collections.abc import Mapping

import msgspec


class KindNeeds(msgspec.Struct, frozen=True, kw_only=True):
    """What the file must give a provider of one kind.

    `base_url`: the kind has no address of its own. `key`: a call without one cannot succeed.
    """

    base_url: bool = False
    key: bool = False


Kinds = Mapping[str, KindNeeds]
"""Every kind a provider may have."""
