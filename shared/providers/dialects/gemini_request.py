"""A question in Gemini's words (`generateContent`); the Developer API's and Vertex's alike.

What Gemini has no word for is named in `dropped`. Its own words may stand in the body as they are,
or below `google` (also below `extra_body.google`, as Google's OpenAI surface has them): safety
settings, cached content, labels, thinking, modalities, speech, media resolution.
"""

import re
from collections.abc import Mapping

from shared.chat.request import ChatRequest, Sampling
from shared.providers.dialects.gemini_contents import conversation
from shared.providers.dialects.gemini_models import Gemini, gemini
from shared.providers.dialects.gemini_names import ToolNames
from shared.providers.dialects.gemini_parts import Json
from shared.providers.dialects.gemini_tools import Offered, offered
from shared.providers.request import FetchedFile
from shared.providers.translation import Asked, Built

MOST_STOPS = 5
"""More `stopSequences` are refused."""

_TOP = frozenset({"safetySettings", "cachedContent", "labels"})
_CONFIG = frozenset({
    "thinkingConfig", "responseModalities", "speechConfig", "mediaResolution", "imageConfig",
    "audioTimestamp", "enableEnhancedCivicAnswers",
})  # fmt: skip
_TIERS = {"default": "standard", "standard": "standard", "flex": "flex", "priority": "priority"}
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "max_output_tokens": "maxOutputTokens",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_OURS = frozenset({
    "safety_identifier", "web_search_options", "google", "extra_body", "store", "prompt_cache_key",
    "prompt_cache_retention",
})  # fmt: skip
"""Extra fields that are not lost: seen to elsewhere, or about the account with another vendor."""


def build_request(
    chat: ChatRequest,
    *,
    vertex: bool = False,
    files: Mapping[str, FetchedFile] = {},
) -> Built:
    """Return the question; `files` are what the gateway has fetched, by their URLs.

    Raises:
        InvalidRequest: calls and results do not match, or a file cannot be read.
        UnsupportedParameter: a file that was uploaded to another provider.
    """
    model = gemini(chat.model, vertex=vertex)
    names = ToolNames(tool.name for tool in chat.tools if tool.kind != "hosted")
    tools = offered(chat, model, names)
    body = conversation(chat.messages, model, names, files) | tools.fields
    lost = [*chat.lost, *tools.dropped]
    config = _sampling(chat.sampling, model, lost, stream=chat.stream)
    config |= _format(chat, model, tools, lost)
    if chat.thinking is not None:
        if model.thinks:
            if thinking := model.thinking(chat.thinking):
                config["thinkingConfig"] = thinking
        elif chat.thinking.effort not in {None, "none"}:
            lost.append("reasoning_effort")
    _add_own(chat.extra, body, config, lost)
    headers = _tier(chat.service_tier, model, body, lost)
    _label(chat.metadata, model, body, lost)
    if config:
        body["generationConfig"] = config
    if "cachedContent" in body:
        # These are part of what was cached, and refused beside it.
        body = {k: v for k, v in body.items() if k not in _CACHED}
    return Built(
        body=body,
        asked=Asked(
            model=chat.model,
            tool_names=names.callers,
            json_tool=tools.json_tool,
            custom_tools=tools.custom,
            tools=bool(chat.tools),
        ),
        dropped=tuple(dict.fromkeys(lost)),
        headers=headers,
    )


_CACHED = frozenset({"tools", "toolConfig", "systemInstruction"})


def _sampling(sampling: Sampling, model: Gemini, lost: list[str], *, stream: bool) -> Json:
    config: Json = {
        google: value
        for ours, google in _SAMPLING.items()
        if (value := getattr(sampling, ours)) is not None
    }
    if not model.takes_penalties:
        penalties = ("presence_penalty", "frequency_penalty")
        lost += [ours for ours in penalties if config.pop(_SAMPLING[ours], 0)]
    if sampling.stop:
        config["stopSequences"] = list(sampling.stop[:MOST_STOPS])
        lost += ["stop"] * (len(sampling.stop) > MOST_STOPS)
    if (sampling.n or 1) > 1 and not stream:
        config["candidateCount"] = sampling.n
    elif (sampling.n or 1) > 1:
        lost.append("n")  # several models refuse it in streams
    if sampling.logprobs:
        config["responseLogprobs"] = True
        if sampling.top_logprobs:
            config["logprobs"] = sampling.top_logprobs
    lost += ["logit_bias"] * bool(sampling.logit_bias)
    return config


def _format(chat: ChatRequest, model: Gemini, tools: Offered, lost: list[str]) -> Json:
    wanted = chat.response_format
    if wanted is None or wanted.kind == "text" or tools.json_tool is not None:
        return {}
    if "tools" in tools.fields and not model.third:
        lost.append("response_format")
        return {}
    config: Json = {"responseMimeType": "application/json"}
    if wanted.schema is not None:
        config["responseJsonSchema"] = wanted.schema
    return config


def _add_own(extra: Mapping[str, object], body: Json, config: Json, lost: list[str]) -> None:
    """Put the caller's words that are Google's where they belong; the others are lost."""
    for name, value in extra.items():
        if name in _OURS or value is None:
            continue
        if not _put(name, value, body, config):
            lost.append(name)
    wrapped = extra.get("extra_body")
    for own in (extra.get("google"), wrapped.get("google") if isinstance(wrapped, dict) else None):
        if isinstance(own, dict):
            for name, value in own.items():
                if not _put(name, value, body, config):
                    lost.append("google")


def _put(name: str, value: object, body: Json, config: Json) -> bool:
    """Put one word where it belongs; return whether all of it has a place."""
    word = camel(name)
    if word == "modalities" and isinstance(value, list):
        config["responseModalities"] = [str(one).upper() for one in value]
    elif word == "generationConfig" and isinstance(value, dict):
        own = {camel(inner): its for inner, its in value.items()}
        # How much may be generated is said in the dialect's words: money is held by these.
        bounds = {"candidateCount"} | {"maxOutputTokens"} & config.keys()
        config |= {inner: its for inner, its in own.items() if inner not in bounds}
        return "candidateCount" not in own
    elif word in _TOP:
        body[word] = value
    elif word in _CONFIG:
        config[word] = camel_keys(value)
    else:
        return False
    return True


def _tier(asked: str | None, model: Gemini, body: Json, lost: list[str]) -> dict[str, str]:
    """Ask for a service tier: in the body, or by headers, which are returned, on Vertex."""
    tier = _TIERS.get(asked or "auto")
    if tier is None:
        lost += ["service_tier"] * (asked not in {None, "auto"})
    elif not model.vertex:
        body["serviceTier"] = tier
    elif tier != "standard":
        return {"x-vertex-ai-llm-shared-request-type": tier}
    return {}


def _label(
    metadata: Mapping[str, object] | None, model: Gemini, body: Json, lost: list[str]
) -> None:
    """Make the metadata labels, which only Vertex has, if all of it can be."""
    if not metadata:
        return
    fits = all(
        _LABEL.fullmatch(name) and isinstance(value, str) and _LABEL_VALUE.fullmatch(value)
        for name, value in metadata.items()
    )
    if fits and model.vertex:
        body.setdefault("labels", dict(metadata))
    else:
        lost.append("metadata")


def camel(name: str) -> str:
    """Return Google's spelling of a field; it reads both, but not one beside the other."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def camel_keys(value: object) -> object:
    """Return the same with its own keys in Google's spelling."""
    return {camel(str(k)): v for k, v in value.items()} if isinstance(value, dict) else value
