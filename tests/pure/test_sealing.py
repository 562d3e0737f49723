"""Secrets at rest."""

import pytest

from shared.errors import OwnFault
from shared.sealing import Sealer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_a_sealed_text_opens_under_the_same_key_only() -> None:
    """And tells nothing of what it holds, not even that it is the same as another."""
    sealed = Sealer("one").seal(SECRET)

    assert SECRET == Sealer("one").open(sealed)
    assert SECRET not in sealed
    assert sealed != Sealer("one").seal(SECRET)
    with pytest.raises(OwnFault, match="SLUICEWAY_SECRET_KEY"):
        Sealer("two").open(sealed)


@pytest.mark.parametrize("damaged", ["", "whsec_plain", "gAAAAA"])
def test_what_is_no_sealed_text_is_refused(damaged: str) -> None:
    """A plain secret in the database is an error, not a fallback."""
    with pytest.raises(OwnFault):
        Sealer("one").open(damaged)
