"""A body that is not of its dialect's form, told with the field that is not."""

import re

from shared.errors import InvalidRequest, too_deep

_PLACE = re.compile(r"at `\$\.([^`]+)`")


def wrong_form(error: Exception, what: str) -> InvalidRequest:
    """Return the refusal of a body that should be `what`; `param` is the field, if one is named."""
    if isinstance(error, RecursionError):
        return too_deep()
    place = _PLACE.search(str(error))
    return InvalidRequest(f"The body is not {what}: {error}", param=place[1] if place else None)
