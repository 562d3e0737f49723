"""The processes' log files as a few lines for a person: calls served, and what went wrong."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from compose.terminal import Terminal

LOOK_S = 0.25
MOST_LINES = 20
"""Shown of one look; under load the terminal is not the place for the rest."""
LONGEST_READ_BYTES = 4_000_000

_ALARMING = frozenset({"warning", "error", "critical"})
_KNOWN = frozenset({"start.note"})
"""What the start of the stack has said in its own words."""


class _Line(msgspec.Struct):
    """What is looked at of a log line."""

    event: str = ""
    level: str = "info"
    timestamp: str = ""
    endpoint: str = ""
    status: int = 0
    elapsed_ms: float = 0.0
    code: str | None = None
    model: str | None = None
    why: object = None
    reason: object = None
    error: object = None


_decode = msgspec.json.Decoder(_Line).decode


class Journal:
    """Reads on where the log files end now."""

    def __init__(self, logs: Mapping[str, Path]) -> None:
        self._logs = dict(logs)
        self._read = {name: _size(path) for name, path in self._logs.items()}

    async def follow(self, terminal: Terminal) -> None:
        """Show new lines for ever."""
        while True:
            lines = list(self.lines())
            for line, style in lines[:MOST_LINES]:
                terminal.words(line, style=style)
            if len(lines) > MOST_LINES:
                terminal.words(f"... and {len(lines) - MOST_LINES} more", style="dim")
            await asyncio.sleep(LOOK_S)

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield what is new and worth showing, with its style."""
        for name, path in self._logs.items():
            for raw in self._new(name, path):
                shown = shown_line(name, raw)
                if shown is not None:
                    yield shown

    def _new(self, name: str, path: Path) -> list[bytes]:
        try:
            with path.open("rb") as file:
                file.seek(self._read[name])
                data = file.read(LONGEST_READ_BYTES)
        except OSError:
            return []
        end = data.rfind(b"\n") + 1
        self._read[name] += end
        return data[:end].splitlines()


def shown_line(name: str, raw: bytes) -> tuple[str, str] | None:
    """Return a log line for a person and its style; None for what only a file needs."""
    try:
        line = _decode(raw)
    except msgspec.DecodeError:
        return None  # Redis, and the lines of a traceback
    at = line.timestamp[11:19]
    if line.event == "request.served":
        asked = f"{line.endpoint}  {line.model or ''}".rstrip()
        told = f"  {line.code}" if line.code else ""
        style = "dim" if line.status < 400 else "yellow"  # noqa: PLR2004 (HTTP)
        return f"{at}  {line.status}  {asked}  {line.elapsed_ms:.0f} ms{told}", style
    if line.level not in _ALARMING or line.event in _KNOWN:
        return None
    why = line.why or line.reason or line.error or line.code or ""
    text = f"{at}  {name} {line.level}: {line.event}{f' ({why})' if why else ''}"
    return text, "yellow" if line.level == "warning" else "red"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
