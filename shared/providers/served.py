"""The dialects that callers speak, by the paths they are spoken on."""

from collections.abc import Mapping

import msgspec

from shared.chat.request import ChatRequest
from shared.chat.response import ChatResponse
from shared.clock import wall_ms
from shared.errors import UnsupportedParameter
from shared.ids import new_id
from shared.providers.dialects import (
    anthropic_render,
    anthropic_served,
    completions_served,
    openai_render,
    openai_served,
    responses_render,
    responses_served,
    responses_stream,
)
from shared.providers.request import InferenceRequest
from shared.providers.target import Target
from shared.providers.translation import ServedDialect, refuse_dropped


def _dated(answer: ChatResponse) -> ChatResponse:
    """Return the answer with the id and the moment that not every provider gives."""
    if answer.id and answer.created_s:
        return answer
    return msgspec.structs.replace(
        answer,
        id=answer.id or new_id("chatcmpl"),
        created_s=answer.created_s or wall_ms() // 1000,
    )


OPENAI = ServedDialect(
    name="openai",
    parse_request=openai_served.parse_request,
    render_response=lambda answer, chat: openai_render.render_response(
        _dated(answer), functions=chat.functions
    ),
    renderer=lambda chat: openai_render.OpenAIRenderer(
        include_usage=chat.include_usage,
        own_id=new_id("chatcmpl"),
        own_created_s=wall_ms() // 1000,
        functions=chat.functions,
    ),
)

MESSAGES = ServedDialect(
    name="anthropic",
    parse_request=anthropic_served.parse_request,
    render_response=lambda answer, _: anthropic_render.render_response(answer, new_id),
    renderer=lambda _: anthropic_render.MessagesRenderer(new_id),
)


def _names() -> responses_render.Names:
    return responses_render.Names(new_id("resp"), wall_ms() // 1000)


RESPONSES = ServedDialect(
    name="openai_responses",
    parse_request=responses_served.parse_request,
    render_response=lambda answer, chat: responses_render.render_response(answer, chat, _names()),
    renderer=lambda chat: responses_stream.ResponsesRenderer(chat, _names()),
)

COMPLETIONS = ServedDialect(
    name=completions_served.DIALECT,
    parse_request=completions_served.parse_request,
    render_response=lambda answer, chat: completions_served.render_response(_dated(answer), chat),
    renderer=lambda chat: completions_served.CompletionsRenderer(
        chat, own_id=new_id("cmpl"), own_created_s=wall_ms() // 1000
    ),
)

SERVED: Mapping[str, ServedDialect] = {
    "/v1/chat/completions": OPENAI,
    "/v1/completions": COMPLETIONS,
    "/v1/messages": MESSAGES,
    "/v1/responses": RESPONSES,
}
"""What can be translated; what stands on no such path is only ever relayed."""


def chat_of(request: InferenceRequest, target: Target) -> tuple[ChatRequest, ServedDialect]:
    """Return the question in the canonical language, asked of the target's model.

    Raises:
        UnsupportedParameter: what stands on this path cannot be translated, or a field of it
            cannot and the route lets none be dropped.
        InvalidRequest: the body is not of its dialect's form; `param` names the field.
    """
    served = SERVED.get(request.endpoint)
    if served is None:
        raise UnsupportedParameter(
            f"{target.name} does not serve {request.endpoint}.", param="model"
        )
    chat = served.parse_request(request.raw)
    refuse_dropped(chat.lost, target)
    return msgspec.structs.replace(chat, model=target.model), served
