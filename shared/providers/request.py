"""A caller's inference request: raw bytes, and the few fields that decide."""

from collections.abc import Mapping

import msgspec

from shared.providers.history import History

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class StreamOptions(msgspec.Struct, frozen=True, gc=False):
    """OpenAI's `stream_options`."""

    include_usage: bool | None = None


class FetchedFile(msgspec.Struct, frozen=True, kw_only=True):
    """What lay at a URL of the request."""

    media_type: str
    content: bytes


class RequestHead(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A partial decode; everything else stays in the raw bytes.

    Some fields are here only so that a value of a wrong type is refused at once, by name. What a
    value may be, within its type, is the provider's to say.
    The Raw fields are empty (and false) when the caller left them out.
    """

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    service_tier: str | None = None
    speed: object = None
    user: str | None = None
    safety_identifier: str | None = None
    encoding_format: str | None = None
    prompt_cache_key: str | None = None
    dimensions: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: float | None = None
    parallel_tool_calls: bool | None = None
    stream_format: str | None = None
    stop: str | list[str] | None = None
    tool_choice: str | dict[str, msgspec.Raw] | None = None
    response_format: dict[str, msgspec.Raw] | None = None
    metadata: dict[str, msgspec.Raw] | None = None
    logit_bias: dict[str, msgspec.Raw] | None = None
    input: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    documents: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()


class InferenceRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call as the gateway sees it. `endpoint` is a path such as `/v1/chat/completions`.

    `content_type` is that of `raw`, with a form's boundary. `files` are what the gateway has
    fetched for a provider that cannot, by their URLs. `headers` are the few of the caller's that a
    relay to the dialect's own vendor sends on, in lower case. `expanded`: the history that the
    request refers to has been written out. `history` is what a look at the messages told, if they
    were of the common form; it is that of its own `raw` alone.
    """

    endpoint: str
    dialect: str
    raw: bytes
    head: RequestHead
    message_count: int = 1
    content_type: str = "application/json"
    files: Mapping[str, FetchedFile] = {}
    headers: Mapping[str, str] = {}
    expanded: bool = False
    history: History | None = None

    @property
    def stream(self) -> bool:
        """Whether the caller wants server-sent events."""
        return bool(self.head.stream)

    @property
    def user(self) -> str | None:
        """The end user, as the body names one: OpenAI's fields, or Anthropic's `metadata`."""
        head = self.head
        if head.safety_identifier or head.user:
            return head.safety_identifier or head.user
        if self.dialect == "anthropic" and head.metadata and "user_id" in head.metadata:
            user_id = msgspec.json.decode(head.metadata["user_id"])
            return user_id if isinstance(user_id, str) else None
        return None

    @property
    def only_text(self) -> bool:
        """Whether it is certain that nothing but text is in its messages."""
        history = self.history
        return history is not None and not history.parts and history.raw is self.raw

    @property
    def include_usage(self) -> bool:
        """Whether the caller asked for the usage chunk."""
        options = self.head.stream_options
        return options is not None and bool(options.include_usage)

    @property
    def max_output_tokens(self) -> int | None:
        """The caller's own bound on output, per choice; None for one that bounds nothing.

        It counts by the name that the endpoint knows. Chat knows two, of which servers obey one or
        the other: the larger. Nothing is bounded by zero, nor by less, which some take as no end.
        """
        head = self.head
        match self.endpoint:
            case "/v1/chat/completions":
                newer, older = head.max_completion_tokens or 0, head.max_tokens or 0
                bound = min(newer, older)
                if bound >= 0:
                    bound = max(newer, older)
            case "/v1/messages" | "/v1/messages/count_tokens" | "/v1/completions":
                bound = head.max_tokens or 0
            case "/v1/responses":
                bound = head.max_output_tokens or 0
            case _:
                return None
        return bound if bound > 0 else None

    @property
    def choice_count(self) -> int:
        """How many answers are asked for, to each prompt."""
        return max(1, self.head.n or 1)

    @property
    def prompt_count(self) -> int:
        """How many prompts a completion has; a list of token ids is one, of texts or lists many."""
        prompt = self.head.prompt
        if self.endpoint != "/v1/completions" or bytes(memoryview(prompt)[:1]) != b"[":
            return 1
        items = bytes(prompt)
        if b'"' not in items and items.find(b"[", 1) < 0:
            return 1
        return max(1, len(_decode_list(items)))

    @property
    def generated_count(self) -> int:
        """How many answers are generated, and charged: the best of some are chosen from more."""
        if self.endpoint != "/v1/completions":
            return self.choice_count
        return max(self.choice_count, self.head.best_of or 1) * self.prompt_count

    @property
    def service_tier(self) -> str | None:
        """The tier asked for, as answers call it: Anthropic's fast speed is one, too."""
        return "fast" if self.head.speed == "fast" else self.head.service_tier


def filled_in(
    request: InferenceRequest, params: Mapping[str, object], *, hold_output_tokens: int
) -> InferenceRequest:
    """Return the request with the operator's fields in its head, where the caller left them out.

    For estimates: `raw` stays. A null of the caller's goes to some targets as it is, so it lets no
    bound below `hold_output_tokens` in.
    """
    head = request.head
    own: dict[str, object] = {}
    for field, names in _BOUNDS_IN.get(request.endpoint, {}).items():
        values = [params[name] for name in names if name in params]
        bounds = [value for value in values if type(value) is int]
        if bounds and getattr(head, field) is None:
            least = hold_output_tokens if f'"{field}"'.encode() in request.raw else 0
            own[field] = max(least, *bounds)
    if not own and request.max_output_tokens is None:
        native = _native_bound(params)
        if native is not None:
            own |= dict.fromkeys(_BOUNDS_IN.get(request.endpoint, ()), native)
    for field, kind in _BESIDES.items():
        value = params.get(field)
        if type(value) is kind and getattr(head, field) is None:
            own[field] = value
    if not own:
        return request
    return msgspec.structs.replace(request, head=msgspec.structs.replace(head, **own))


def _native_bound(params: Mapping[str, object]) -> int | None:
    """Return the bound on output that stands in the operator's fields in a vendor's own words."""
    bounds = []
    for group, names in _NATIVE.items():
        found = params if not group else params.get(group)
        if isinstance(found, Mapping):
            bounds += [found[name] for name in names if type(found.get(name)) is int]
    return max(bounds, default=None)


_NATIVE: Mapping[str, tuple[str, ...]] = {
    "": ("num_predict",),
    "options": ("num_predict",),
    "generationConfig": ("maxOutputTokens", "max_output_tokens"),
    "generation_config": ("maxOutputTokens", "max_output_tokens"),
    "inferenceConfig": ("maxTokens",),
}
"""Where Ollama, Gemini and Bedrock have it, beside what is translated for them."""
_OF_CHAT = ("max_tokens", "max_completion_tokens")
_BOUNDS_IN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "/v1/chat/completions": {name: (name,) for name in _OF_CHAT},
    "/v1/completions": {"max_tokens": _OF_CHAT},
    "/v1/messages": {"max_tokens": _OF_CHAT},
    "/v1/responses": {"max_output_tokens": (*_OF_CHAT, "max_output_tokens")},
}
"""The bounds on output by endpoint, each with the names that the operator may give it by.

A target that is asked in translation knows chat's.
"""
_BESIDES = {"n": int, "best_of": int, "service_tier": str, "speed": str}
"""The other fields that decide what a call can cost, and the type of each."""
