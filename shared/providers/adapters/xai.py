"""xAI's Grok."""

import re

from shared.providers.dialects.openai_draft import Draft, drops
from shared.providers.dialects.openai_messages import (
    thoughts_as,
    without_call_extras,
    without_names,
)
from shared.providers.dialects.openai_models import IMITATOR, efforts_by
from shared.providers.dialects.openai_tools import without_tool_fields
from shared.providers.dialects.passed import IMAGES
from shared.providers.relay import WITH_RESPONSES, RelayAdapter, Vendor

_PLAIN = re.compile(r"non-reasoning|grok-2|grok-beta|grok-vision")
"""Models that do not reason; grok-3 and its like are answered by models that do."""


def reasons(draft: Draft) -> None:
    """Reasoning models refuse stops and penalties."""
    if not _PLAIN.search(draft.model.lower()):
        for name in ("stop", "presence_penalty", "frequency_penalty"):
            draft.drop(name)


EFFORTS = efforts_by(
    (r"non-reasoning|grok-code|grok-2|grok-beta", ()),
    (r"grok-3-mini", ("none", "low", "high")),
    (r"grok-(?:3|4\.3|4-fast|4-1-fast|4\.1-fast)", ("none", "low", "medium", "high")),
    (r"grok-4\.[56](?!\d)", ("low", "medium", "high")),
    (r"grok-(?:4\.[7-9]|[5-9])", ("low", "medium", "high", "xhigh")),
)

VENDOR = Vendor(
    kind="xai",
    base_url="https://api.x.ai/v1",
    endpoints=WITH_RESPONSES | {IMAGES},
    steps=(
        *IMITATOR,
        without_names,
        without_tool_fields("strict"),
        without_call_extras,
        thoughts_as("reasoning_content"),
        reasons,
        EFFORTS,
        # Live search has left the chat for the Responses tools; the bias is ignored in silence.
        drops("logit_bias", "search_parameters", "web_search_options", "top_k"),
    ),
)

ADAPTERS = (RelayAdapter(VENDOR),)
