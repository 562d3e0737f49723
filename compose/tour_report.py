"""The tour's table."""

from collections.abc import Sequence
from decimal import Decimal

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

NONE = "-"
LONG_MS = 10_000
_MILLIONTH = Decimal("0.000001")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in one step; None where nobody knows."""

    name: str = ""
    outcome: str
    ok: bool = True
    elapsed_ms: int | None = None
    attempts: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None


def table_of(steps: Sequence[Step], model: str) -> Table:
    """Return the table; the step called Total stands apart."""
    table = Table(box=box.SIMPLE_HEAD, title=f"What just happened, with the model {model}")
    table.title_style = "bold"
    table.title_justify = "left"
    table.add_column("What", no_wrap=True)
    table.add_column("Outcome", ratio=1)
    for heading in ("Time", "Attempts", "Tokens", "Cost"):
        table.add_column(heading, justify="right", no_wrap=True)
    for step in steps:
        if step.name == "Total":
            table.add_section()
        table.add_row(*_cells(step), style="bold" if step.name == "Total" else "")
    return table


def _cells(step: Step) -> list[Text]:
    return [
        Text(step.name),
        Text(step.outcome if step.ok else f"failed: {step.outcome}", "" if step.ok else "red"),
        Text(_length(step.elapsed_ms)),
        Text(NONE if step.attempts is None else str(step.attempts)),
        Text(_tokens(step)),
        Text(NONE if step.cost_usd is None else dollars(step.cost_usd)),
    ]


def dollars(amount: Decimal) -> str:
    """Return an amount in USD to the millionth, with all its digits where that would show none."""
    return f"${amount:f}" if 0 < amount < _MILLIONTH else f"${amount:.6f}"


def _length(elapsed_ms: int | None) -> str:
    if elapsed_ms is None:
        return ""
    return f"{elapsed_ms} ms" if elapsed_ms < LONG_MS else f"{elapsed_ms / 1000:.1f} s"


def _tokens(step: Step) -> str:
    if step.input_tokens is None and step.output_tokens is None:
        return NONE
    return f"{step.input_tokens or 0} + {step.output_tokens or 0}"
