"""Vendors and servers that speak OpenAI's dialect: one row each.

Sources of the addresses and quirks: the vendors' API documentation, state of November 2026. A row's
steps stand in the order in which they are taken. `capabilities` of a target overrule them by the
field's name.
"""

from shared.providers.dialects.openai_draft import Draft, drops, max_tokens_only
from shared.providers.dialects.openai_embeddings import base64_too, floats_only, texts_only
from shared.providers.dialects.openai_messages import (
    system_first,
    thoughts_as,
    without_call_extras,
    without_names,
)
from shared.providers.dialects.openai_models import IMITATOR, LENIENT, efforts_by
from shared.providers.dialects.openai_tools import no_forced_choice
from shared.providers.dialects.passed import ENDPOINTS as PASSED
from shared.providers.dialects.passed import IMAGES, RERANK, SPEECH, TRANSCRIPTIONS
from shared.providers.relay import (
    CHAT_ONLY,
    ENDPOINTS,
    RESPONSES_PATH,
    WITH_RESPONSES,
    RelayAdapter,
    Vendor,
)

TEXTS = (floats_only, texts_only)
"""Servers that embed texts, not token ids."""

RAW = (*IMITATOR, system_first)
"""Servers that render prompts by the model's own template."""


def warm_at_most_1(draft: Draft) -> None:
    """Moonshot's temperature ends at 1."""
    if draft.has("temperature"):
        temperature = draft.read("temperature")
        if isinstance(temperature, int | float) and temperature > 1:
            draft.note("temperature")
            draft.body["temperature"] = 1


def thinking_switch(draft: Draft) -> None:
    """Z.ai's thinking is on or off."""
    if draft.has("reasoning_effort"):
        off = draft.read("reasoning_effort") == "none"
        del draft.body["reasoning_effort"]
        draft.body.setdefault("thinking", {"type": "disabled" if off else "enabled"})


GROQ_EFFORTS = efforts_by(
    (r"gpt-oss", ("low", "medium", "high")),
    (r"qwen", {"none": "none", "*": "default"}),
)

ROWS = (
    # Any other server; the operator gives the address, local ones need no key.
    Vendor(
        kind="openai_compatible",
        needs_key=False,
        endpoints=ENDPOINTS | PASSED,
        steps=(*LENIENT, system_first),
    ),
    Vendor(
        kind="vllm",
        base_url="http://localhost:8000/v1",
        needs_key=False,
        endpoints=ENDPOINTS | {RERANK, TRANSCRIPTIONS},
        steps=RAW,
        vectors=(base64_too,),
    ),
    Vendor(
        kind="sglang",
        base_url="http://localhost:30000/v1",
        needs_key=False,
        endpoints=ENDPOINTS | {RERANK},
        steps=RAW,
    ),
    Vendor(
        kind="llamacpp",
        base_url="http://localhost:8080/v1",
        needs_key=False,
        endpoints=ENDPOINTS | {RERANK},
        steps=RAW,
    ),
    Vendor(
        kind="lmstudio",
        base_url="http://localhost:1234/v1",
        needs_key=False,
        steps=RAW,
        vectors=TEXTS,
    ),
    Vendor(
        kind="groq",
        base_url="https://api.groq.com/openai/v1",
        endpoints=frozenset({*CHAT_ONLY, RESPONSES_PATH, SPEECH, TRANSCRIPTIONS}),
        responses_lack=(
            "store", "previous_response_id", "truncation", "include", "safety_identifier",
            "prompt_cache_key",
        ),
        steps=(
            *IMITATOR,
            without_names,
            thoughts_as("reasoning"),
            without_call_extras,
            GROQ_EFFORTS,
            drops("n", "logprobs", "top_logprobs", "logit_bias", "metadata", "store", "top_k"),
        ),
    ),
    Vendor(
        kind="openrouter",
        base_url="https://openrouter.ai/api/v1",
        endpoints=WITH_RESPONSES,
        # Its cache marks and its details of reasoning go through to whoever serves the model.
        steps=(*LENIENT, thoughts_as("reasoning", details=True), drops("n")),
    ),
    Vendor(
        kind="together",
        base_url="https://api.together.xyz/v1",
        endpoints=ENDPOINTS | {IMAGES, RERANK, SPEECH, TRANSCRIPTIONS},
        steps=(
            *IMITATOR,
            max_tokens_only,
            thoughts_as("reasoning"),
            drops("parallel_tool_calls", "store", "metadata"),
        ),
        vectors=TEXTS,
    ),
    Vendor(
        kind="fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        endpoints=ENDPOINTS | {RERANK},
        steps=(*IMITATOR, max_tokens_only, thoughts_as("reasoning_content")),
    ),
    Vendor(
        kind="cerebras",
        base_url="https://api.cerebras.ai/v1",
        endpoints=CHAT_ONLY,
        steps=(*IMITATOR, thoughts_as("reasoning"), drops("n", "logit_bias", "store", "metadata")),
    ),
    Vendor(
        kind="moonshot",
        base_url="https://api.moonshot.ai/v1",
        endpoints=CHAT_ONLY,
        steps=(
            *IMITATOR,
            max_tokens_only,
            thoughts_as("reasoning_content"),
            no_forced_choice,
            warm_at_most_1,
            drops("logit_bias", "logprobs", "top_logprobs", "seed", "parallel_tool_calls"),
        ),
    ),
    Vendor(
        kind="zai",
        base_url="https://api.z.ai/api/paas/v4",
        endpoints=frozenset({*CHAT_ONLY, "/v1/embeddings"}),
        steps=(
            *IMITATOR,
            max_tokens_only,
            thoughts_as("reasoning_content"),
            thinking_switch,
            no_forced_choice,
            drops("n", "seed", "logit_bias", "logprobs", "top_logprobs", "parallel_tool_calls",
                  "presence_penalty", "frequency_penalty"),
        ),
        vectors=TEXTS,
    ),
)  # fmt: skip

ADAPTERS = tuple(RelayAdapter(row) for row in ROWS)
