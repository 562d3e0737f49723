"""Finding the URLs in a request that a provider cannot fetch itself."""

import re
from collections.abc import Callable, Sequence

from shared.chat.message import Part
from shared.providers.request import InferenceRequest
from shared.providers.served import SERVED, chat_of
from shared.providers.target import Target

_MAYBE = re.compile(rb'"(?:url|image_url|file_url)"\s*:\s*"[hH][tT][tT][pP]')
"""How a URL stands in every served dialect; most requests have none and are not read for them."""


def urls_in(
    request: InferenceRequest, target: Target, url_of: Callable[[Part], str | None]
) -> Sequence[str]:
    """Return the URLs that `url_of` finds in the parts of a chat, each once, in order.

    Raises:
        InvalidRequest: the body is not of its dialect's form.
    """
    if request.endpoint not in SERVED or _MAYBE.search(request.raw) is None:
        return ()
    chat, _ = chat_of(request, target)
    found = (url_of(part) for message in chat.messages for part in message.parts)
    return tuple(dict.fromkeys(url for url in found if url is not None))
