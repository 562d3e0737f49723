"""Logs: one JSON object a line on stderr, with the ids of the request and no secrets.

Our own lines come from structlog; those of libraries (uvicorn, dramatiq, apscheduler) arrive
through `logging` and leave in the same shape.
"""

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Literal, TextIO, cast

import msgspec
import structlog

from shared.telemetry.context import current_ids
from shared.telemetry.lines import LINES, Lines
from shared.telemetry.redaction import redacted_value

LogLevel = Literal["debug", "info", "warning", "error", "critical"]

_LEVELS: dict[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_Fields = MutableMapping[str, Any]
# Their INFO lines tell nothing that ours do not.
_CHATTY = ("httpx", "httpcore", "apscheduler", "asyncio", "alembic", "dramatiq", "uvicorn")


def get_logger(name: str | None = None) -> structlog.typing.FilteringBoundLogger:
    """Return a logger; `name` (the part that speaks) becomes the field `module`.

    May be called at import: the logger takes its settings when it writes its first line.
    """
    named = {} if name is None else {"module": name}
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(**named))


def configure_logging(
    *, level: LogLevel = "info", console: bool = False, stream: TextIO | None = None
) -> None:
    """Set up logging for this process; once, before the first line.

    `console` writes coloured lines for people instead of JSON. The default stream is stderr, which
    an event loop never waits for (`lines`).
    """
    target = LINES if stream is None else Lines(stream)
    shared_steps: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        _add_ids,
        structlog.processors.format_exc_info,
        _redact,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(timestamp_key="timestamp") if console else _render_json
    )
    structlog.configure(
        processors=[*shared_steps, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", target)),
        cache_logger_on_first_use=True,
    )
    _adopt_library_logs(level, target, shared_steps, renderer)


@contextmanager
def quiet() -> Iterator[None]:
    """Write only warnings and worse meanwhile: for commands that tell what they did themselves."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        yield
    finally:
        structlog.configure(wrapper_class=before)


def wants_console(environment: str, stream: TextIO | None = None) -> bool:
    """Return whether lines are for a person: a terminal, in development."""
    return environment == "dev" and (stream or sys.stderr).isatty()


def _adopt_library_logs(
    level: LogLevel,
    lines: Lines,
    steps: list[structlog.typing.Processor],
    renderer: structlog.typing.Processor,
) -> None:
    handler = logging.StreamHandler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *steps],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    quiet = max(_LEVELS[level], logging.WARNING)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(quiet)


def _add_ids(_logger: object, _method: str, fields: _Fields) -> _Fields:
    for name, value in current_ids().items():
        fields.setdefault(name, value)
    return fields


def _redact(_logger: object, _method: str, fields: _Fields) -> _Fields:
    for name, value in fields.items():
        fields[name] = redacted_value(name, value)
    return fields


def _render_json(_logger: object, _method: str, fields: _Fields) -> str:
    first = {name: fields.pop(name) for name in ("timestamp", "level", "event") if name in fields}
    return msgspec.json.encode({**first, **fields}, enc_hook=str).decode()
