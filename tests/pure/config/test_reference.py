"""The reference pages say what the code does: keys, defaults, gaps, statuses, labels, events."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect
from prometheus_client import Counter, Gauge, Histogram

from api.errors import STATUSES
from shared.config.meanings import meanings
from shared.config.model import Config
from shared.config.not_yet import GAPS
from shared.config.section import Section
from shared.settings import VARIABLES
from shared.telemetry.metrics import metrics
from shared.webhooks.event import EVENT_TYPES

REFERENCE = Path(__file__).parents[3] / "docs/reference"


def rows(page: str) -> list[list[str]]:
    """Return the cells of a page's table rows."""
    lines = (REFERENCE / page).read_text(encoding="utf-8").splitlines()
    cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|")
    return [row for row in cells if not set("".join(row)) <= {"-"}]


def bare(kind: inspect.Type) -> inspect.Type:
    """Return a type without its metadata and its None."""
    if isinstance(kind, inspect.Metadata):
        return bare(kind.type)
    if isinstance(kind, inspect.UnionType):
        return bare(next(one for one in kind.types if not isinstance(one, inspect.NoneType)))
    return kind


def keys_below(kind: inspect.Type, path: str) -> Iterator[tuple[str, inspect.Field]]:
    """Yield every key of the file with its field; sections used in many places stand once."""
    match bare(kind):
        case inspect.StructType(fields=fields):
            for field in fields:
                name = f"{path}.{field.name}".lstrip(".")
                name = re.sub(r"^(routes|tenants).*\.(limits\.|price\.|budgets\[\]\.)", r"\2", name)
                yield name, field
                yield from keys_below(field.type, name)
        case inspect.VarTupleType(item_type=item):
            yield from keys_below(item, f"{path}[]")
        case inspect.DictType(value_type=value):
            yield from keys_below(value, f"{path}.*")


def default_of(field: inspect.Field) -> str:
    """Return a default as the page writes it."""
    if field.required:
        return "required"
    if field.default is msgspec.NODEFAULT:
        pairs = field.default_factory() if callable(field.default_factory) else {}
        inner = ", ".join(f"{name}: {value}" for name, value in pairs.items())
        return f"`{{{inner}}}`" if inner else "empty"
    match field.default:
        case None:
            return "none"
        case Section():
            return "the keys below"
        case bool():
            return f"`{str(field.default).lower()}`"
        case float():
            return f"`{field.default:.10g}`"
        case ():
            return "empty"
        case tuple():
            return f"`[{', '.join(map(str, field.default))}]`"
        case _:
            return f"`{field.default}`"


def test_every_key_of_the_file_has_a_row_with_its_default():
    declared = {
        name: default_of(field)
        for name, field in keys_below(inspect.type_info(Config), "")
        if name != "disabled"
    }
    written = {row[0].strip("`"): row[1] for row in rows("settings.md") if 4 == len(row)}
    del written["key"]

    assert declared == written


def meanings_below(kind: inspect.Type, path: str) -> Iterator[tuple[str, str]]:
    """Yield every key of the file with what stands below its field."""
    match bare(kind):
        case inspect.StructType(cls=cls, fields=fields):
            for field in fields:
                name = f"{path}.{field.name}".lstrip(".")
                name = re.sub(r"^(routes|tenants).*\.(limits\.|price\.|budgets\[\]\.)", r"\2", name)
                yield name, meanings(cls)[field.name]
                yield from meanings_below(field.type, name)
        case inspect.VarTupleType(item_type=item):
            yield from meanings_below(item, f"{path}[]")
        case inspect.DictType(value_type=value):
            yield from meanings_below(value, f"{path}.*")


def test_every_key_means_the_same_on_the_page_and_in_the_code():
    """The page adds links, and nothing else."""
    declared = dict(meanings_below(inspect.type_info(Config), ""))
    del declared["disabled"]
    written = {
        row[0].strip("`"): re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", row[3])
        for row in rows("settings.md")
        if 4 == len(row) and row[0] != "key"
    }

    assert declared == written


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("_s", {"seconds"}),
        ("_mb", {"MiB"}),
        ("_usd", {"USD"}),
        ("_per_mtok", {"USD per million tokens"}),
        ("_tokens", {"tokens"}),
        (".rpm", {"requests/min"}),
        (".tpd", {"tokens/day"}),
        ("_days", {"days"}),
        (".thresholds", {"percent"}),
        (
            "",
            {
                "",
                "USD",
                "USD per million tokens",
                "seconds",
                "days",
                "tokens",
                "tokens/min",
                "tokens/day",
                "requests/min",
                "requests/day",
                "calls",
                "jobs",
                "answers",
                "percent",
                "date",
                "KiB",
                "MiB",
            },
        ),
    ],
)
def test_units_are_said(ending, expected):
    units = {row[0].strip("`"): row[2] for row in rows("settings.md")[1:] if 4 == len(row)}
    del units["key"]

    assert expected == {unit for name, unit in units.items() if name.endswith(ending)}


def test_every_variable_of_the_environment_has_a_row_and_no_other():
    written = {
        row[0].strip("`")
        for row in rows("settings.md")
        if 3 == len(row) and row[0].startswith("`SLUICEWAY_")
    }

    assert VARIABLES.keys() == written


def test_every_gap_has_a_row():
    written = {tuple(row) for row in rows("settings.md") if 2 == len(row)}

    assert {(gap.feature, gap.effect) for gap in GAPS} == written - {
        ("feature", "what happens instead")
    }


def test_every_error_code_has_its_status():
    written = {row[0].strip("`"): row[1] for row in rows("errors.md")[1:]}

    assert {code: str(status) for code, status in STATUSES.items()} == written


def test_every_metric_has_its_type_and_labels():
    kinds = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}
    declared = {
        metric.describe()[0].name + ("_total" if isinstance(metric, Counter) else ""): (
            kinds[type(metric)],
            tuple(metric._labelnames),
        )
        for metric in metrics()
    }
    written = {
        row[0].strip("`"): (row[1], tuple(re.findall(r"`(\w+)`", row[2])))
        for row in rows("metrics.md")[1:]
    }

    assert declared == written


def test_every_event_has_a_row():
    groups = {name.partition(".")[0] for name in EVENT_TYPES}
    written = {row[0].strip("`") for row in rows("events.md")}

    assert {name for name in written if name.partition(".")[0] in groups} == EVENT_TYPES
