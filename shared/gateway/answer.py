"""What goes into the gateway beside the request, and what comes out."""

import msgspec

from shared.chat.usage import Usage
from shared.errors import FailedAttempt
from shared.limits.limiter import Standing


class CallContext(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked for what, for the books and the logs.

    `own_deadline` says that the caller shortened the time by a header.
    """

    request_id: str
    job_id: str | None = None
    tags: dict[str, str] = {}
    user: str | None = None
    own_deadline: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer in the served dialect.

    `model` is the upstream model asked, `reported_model` what the provider called itself.
    `attempts` lists every try, the good one last. `cost_nanousd` sums the priced ones of them
    and is None when the good one has no price. `standing` is what is left of the caller's limits.
    `dropped` are the caller's fields that the target could not be asked.
    """

    body: bytes
    route: str
    provider: str
    model: str
    reported_model: str | None
    attempts: tuple[FailedAttempt, ...]
    usage: Usage | None
    cost_nanousd: int | None
    standing: Standing | None = None
    dropped: tuple[str, ...] = ()
    status: int = 200
