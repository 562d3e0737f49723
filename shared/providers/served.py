"""The dialects that callers speak, by the paths they are spoken on."""

from collections.abc import Mapping

import msgspec

from shared.chat.request import ChatRequest
from shared.errors import UnsupportedParameter
from shared.providers.dialects import openai_render, openai_served
from shared.providers.request import InferenceRequest
from shared.providers.target import Target
from shared.providers.translation import ServedDialect

OPENAI = ServedDialect(
    name="openai",
    parse_request=openai_served.parse_request,
    render_response=lambda answer, _: openai_render.render_response(answer),
    renderer=lambda chat: openai_render.OpenAIRenderer(include_usage=chat.include_usage),
)

SERVED: Mapping[str, ServedDialect] = {
    "/v1/chat/completions": OPENAI,
}
"""What can be translated; what stands on no such path is only ever relayed."""


def chat_of(request: InferenceRequest, target: Target) -> tuple[ChatRequest, ServedDialect]:
    """Return the question in the canonical language, asked of the target's model.

    Raises:
        UnsupportedParameter: what stands on this path cannot be translated.
        InvalidRequest: the body is not of its dialect's form; `param` names the field.
    """
    served = SERVED.get(request.endpoint)
    if served is None:
        raise UnsupportedParameter(
            f"{target.name} does not serve {request.endpoint}.", param="model"
        )
    chat = served.parse_request(request.raw)
    return msgspec.structs.replace(chat, model=target.model), served
