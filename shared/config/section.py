"""What sections of the config file are made of: bounded values, texts with a form, secrets.

What a value may be is part of its type: bounds as msgspec constraints, text formats by name in
`extra`. The loader obeys both, `redacted` and every repr hide what is marked secret, and the schema
for editors shows it all. A `pattern` is for that schema: `checks` says the same in words.
"""

import functools
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta
from typing_extensions import override

Seconds = Annotated[float, Meta(gt=0)]
Positive = Annotated[int, Meta(ge=1)]
Percent = Annotated[int, Meta(ge=1, le=1000)]
Usd = Annotated[str, Meta(extra={"format": "usd"})]
Factor = Annotated[str, Meta(extra={"format": "factor"})]
Url = Annotated[str, Meta(extra={"format": "url"})]
Network = Annotated[str, Meta(extra={"format": "network"})]
Timezone = Annotated[str, Meta(extra={"format": "timezone"})]
Date = Annotated[str, Meta(extra={"format": "date"})]
SmtpUrl = Annotated[str, Meta(extra={"format": "smtp", "secret": True})]
SnsTopic = Annotated[str, Meta(extra={"format": "sns_topic"})]
SecretUrl = Annotated[str, Meta(extra={"format": "url", "secret": True})]
Key = Annotated[str, Meta(extra={"format": "key", "secret": True})]
WebhookSecret = Annotated[str, Meta(extra={"format": "webhook_secret", "secret": True})]
ProviderName = Annotated[str, Meta(pattern=r"^[^/\s]+$")]
TenantId = Annotated[str, Meta(pattern=r"^[^/:\s]+$")]
ModelName = Annotated[str, Meta(pattern=r"^[^*]*\*?$")]
Headers = Annotated[dict[str, str], Meta(extra={"format": "headers", "secret": True})]
PublicHeaders = Annotated[dict[str, str], Meta(extra={"format": "headers"})]

FailureName = Literal[
    "rate_limited",
    "overloaded",
    "server_error",
    "timeout",
    "connection",
    "malformed",
    "credential",
    "context_length",
    "content_filter",
]
"""The kinds of failure that `on_failure` can send elsewhere."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping in the file; unknown keys are mistakes."""

    @override
    def __repr__(self) -> str:
        hidden = secret_fields(type(self))
        shown = (
            f"{name}={HIDDEN!r}" if name in hidden and value else f"{name}={value!r}"
            for name in self.__struct_fields__
            for value in (getattr(self, name),)
        )
        return f"{type(self).__name__}({', '.join(shown)})"


HIDDEN = "[hidden]"
"""Stands where a secret is left out."""


@functools.cache
def secret_fields(section: type[Section]) -> frozenset[str]:
    """Return the fields of a section that are never shown."""
    hints = get_type_hints(section, include_extras=True)
    return frozenset(name for name, hint in hints.items() if _is_secret(hint))


def _is_secret(hint: object) -> bool:
    if get_origin(hint) is Annotated:
        marks = (mark.extra or {} for mark in get_args(hint)[1:] if isinstance(mark, Meta))
        return any(mark.get("secret") for mark in marks)
    return any(_is_secret(part) for part in get_args(hint))
