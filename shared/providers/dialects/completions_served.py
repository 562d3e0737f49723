"""OpenAI's older dialect, a prompt and its continuation, asked of models that only chat."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from shared.chat.message import Message, TextPart
from shared.chat.request import ChatRequest, Sampling
from shared.chat.response import ChatChoice, ChatDelta, ChatResponse, FinishReason
from shared.chat.usage import Usage
from shared.errors import InvalidRequest, UnsupportedParameter
from shared.providers.dialects.openai_render import render_usage
from shared.providers.dialects.wrong_form import wrong_form

DIALECT = "openai_completions"


class _Options(msgspec.Struct):
    include_usage: bool | None = None


class _Wire(msgspec.Struct):
    model: str
    prompt: str | list[str | int | list[int]]
    suffix: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: _Options | None = None
    logprobs: int | None = None
    echo: bool | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    best_of: int | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    seed: int | None = None


_KNOWN = frozenset(_Wire.__struct_fields__)
_decode = msgspec.json.Decoder(_Wire).decode
_decode_fields = msgspec.json.Decoder(dict[str, object]).decode


def parse_request(raw: bytes) -> ChatRequest:
    """Return the prompt as a user's only message; `echo` is kept for the answer.

    Raises:
        InvalidRequest: a field is missing or of the wrong form.
        UnsupportedParameter: several prompts, or token ids; `param` is `prompt`.
    """
    try:
        wire = _decode(raw)
        fields = _decode_fields(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong_form(error, "a completion request") from error
    prompt = _prompt(wire.prompt)
    lost = {"suffix": wire.suffix, "best_of": (wire.best_of or 1) > (wire.n or 1)}
    options = wire.stream_options
    return ChatRequest(
        model=wire.model,
        messages=(Message(role="user", parts=(TextPart(text=prompt),)),),
        sampling=_sampling(wire),
        user=wire.user,
        stream=bool(wire.stream),
        include_usage=options is not None and bool(options.include_usage),
        dialect=DIALECT,
        extra={name: value for name, value in fields.items() if name not in _KNOWN},
        lost=tuple(name for name, set_ in lost.items() if set_),
        echo={"prompt": prompt} if wire.echo else {},
    )


def render_response(answer: ChatResponse, chat: ChatRequest) -> bytes:
    """Return a whole completion."""
    body: dict[str, object] = {
        "id": answer.id,
        "object": "text_completion",
        "created": answer.created_s,
        "model": answer.model,
        "choices": [_choice(choice, chat) for choice in answer.choices],
    }
    if answer.usage is not None:
        body["usage"] = render_usage(answer.usage)
    return msgspec.json.encode(body)


class CompletionsRenderer:
    """Turns the deltas of one stream into chunks of text; thoughts are not shown.

    `own_id` and `own_created_s` stand where the provider has told none by the first chunk.
    """

    def __init__(self, chat: ChatRequest, *, own_id: str = "", own_created_s: int = 0) -> None:
        self._chat = chat
        self._own_id = own_id
        self._own_created_s = own_created_s
        self._id = ""
        self._model = ""
        self._created_s = 0
        self._opened: set[int] = set()

    def render(self, deltas: Iterable[ChatDelta]) -> bytes:
        """Return the chunks of these deltas."""
        return b"".join([self._chunk(delta) for delta in deltas])

    def closing(self, usage: Usage | None, cost_usd: str | None) -> bytes:
        """Return the usage chunk, if asked and counts or cost are known, and the end mark."""
        done = b"data: [DONE]\n\n"
        if not self._chat.include_usage or (usage is None and cost_usd is None):
            return done
        counts = None if usage is None else render_usage(usage)
        body = {**self._head(), "choices": [], "usage": counts}
        body["sluiceway"] = {"cost_usd": msgspec.Raw((cost_usd or "null").encode())}
        return _event(body) + done

    def _chunk(self, delta: ChatDelta) -> bytes:
        self._id = self._id or delta.id or ""
        self._model = self._model or delta.model or ""
        self._created_s = self._created_s or delta.created_s or 0
        text = delta.text or delta.refusal or ""
        if not text and delta.finish is None:
            return b""
        if delta.choice not in self._opened:
            self._opened.add(delta.choice)
            text = str(self._chat.echo.get("prompt", "")) + text
        choice = {
            "index": delta.choice,
            "text": text,
            "logprobs": _logprobs(delta.logprobs),
            "finish_reason": _finish(delta.finish),
        }
        return _event({**self._head(), "choices": [choice]})

    def _head(self) -> dict[str, object]:
        self._id = self._id or self._own_id
        self._model = self._model or self._chat.model
        self._created_s = self._created_s or self._own_created_s
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created_s,
            "model": self._model,
        }


def _prompt(given: str | list[str | int | list[int]]) -> str:
    items = [given] if isinstance(given, str) else given
    if not all(isinstance(item, str) for item in items):
        raise UnsupportedParameter(
            "This model takes text, not token ids; send `prompt` as text.", param="prompt"
        )
    if len(items) > 1:
        raise UnsupportedParameter(
            "This model takes one prompt at a time; send a call for each.", param="prompt"
        )
    if not items:
        raise InvalidRequest("`prompt` must not be empty.", param="prompt")
    return str(items[0])


def _sampling(wire: _Wire) -> Sampling:
    stop = (wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop or ())
    return Sampling(
        temperature=wire.temperature,
        top_p=wire.top_p,
        max_output_tokens=wire.max_tokens,
        stop=stop,
        seed=wire.seed,
        presence_penalty=wire.presence_penalty,
        frequency_penalty=wire.frequency_penalty,
        logit_bias=wire.logit_bias,
        logprobs=None if wire.logprobs is None else True,
        top_logprobs=wire.logprobs or None,
        n=wire.n,
    )


def _choice(choice: ChatChoice, chat: ChatRequest) -> dict[str, object]:
    said = choice.text or choice.refusal or ""
    return {
        "index": choice.index,
        "text": str(chat.echo.get("prompt", "")) + said,
        "logprobs": _logprobs(choice.logprobs),
        "finish_reason": _finish(choice.finish),
    }


def _finish(reason: FinishReason | None) -> str | None:
    if reason is None:
        return None
    return "stop" if reason is FinishReason.TOOL_CALLS else reason.value


def _logprobs(chat: Sequence[Mapping[str, object]]) -> dict[str, object] | None:
    """Return chat's list of tokens as the older dialect's columns; offsets it cannot know."""
    if not chat:
        return None
    return {
        "tokens": [token.get("token") for token in chat],
        "token_logprobs": [token.get("logprob") for token in chat],
        "top_logprobs": [_best(token.get("top_logprobs")) for token in chat],
        "text_offset": [],
    }


def _best(tokens: object) -> dict[str, object]:
    found = tokens if isinstance(tokens, list) else []
    return {str(token.get("token")): token.get("logprob") for token in found}


def _event(body: Mapping[str, object]) -> bytes:
    return b"data: " + msgspec.json.encode(body) + b"\n\n"
