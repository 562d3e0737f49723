"""An event as a message for Slack's incoming webhooks. Pure.

Source: Slack's documentation of incoming webhooks and of formatting text: `&`, `<` and `>` are its
only control characters, so that nobody's name can mention a channel.
"""

import msgspec

from shared.webhooks.wording import wording

LONGEST_BLOCK = 2900
"""A section takes 3,000 characters."""


def slack_message(body: bytes) -> bytes:
    """Return the JSON to post for an event's body: a headline, and its facts beneath.

    Raises:
        msgspec.DecodeError: it is no event's body.
    """
    words = wording(body)
    headline = _escaped(words.headline)
    facts = "\n".join(f"{name}: {_escaped(text)}" for name, text in words.facts)
    blocks = [
        {"type": "section", "text": {"type": "mrkdwn", "text": f"*{headline}*"}},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": facts[:LONGEST_BLOCK]}]},
    ]
    return msgspec.json.encode({"text": headline, "blocks": blocks})


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
