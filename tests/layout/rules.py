"""The rules themselves: functions from modules and texts to complaints."""

import ast
import posixpath
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import PurePosixPath

from tests.layout.sources import Module

MODULE_LINES = 400
FUNCTION_LINES = 60

Function = ast.FunctionDef | ast.AsyncFunctionDef

EMPTY_NAMES = frozenset({"common", "helper", "helpers", "misc", "util", "utils"})

CLOCK_READS = frozenset({
    *(f"time.{name}" for name in ("time", "monotonic", "perf_counter", "process_time", "sleep")),
    *(f"time.{name}" for name in ("time_ns", "monotonic_ns", "perf_counter_ns", "localtime")),
    *(f"datetime.datetime.{name}" for name in ("now", "utcnow", "today")),
    "datetime.date.today",
    "asyncio.sleep",
})  # fmt: skip

METRIC_CLASSES = frozenset({"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"})
METRICS_FOLDER = "shared/telemetry/"
METRICS_HOME = METRICS_FOLDER + "metrics.py"

MACHINE_PATH = re.compile(r"(?<![\w.])/(?:root/|Users/\w|home/\w|work/[\w.])")
# Brackets keep a pattern from being what it looks for.
PATCH = re.compile(r"(unittest[.])?mock([.]|$)|mocker[.]|monkeypatch[.](set|del)attr")
REGISTRY_HOST = re.compile(r"pypi[.]org|python[h]osted|registry[.]npm|//deb[.]debian")


def long_modules(found: Iterable[Module]) -> list[str]:
    """Return the modules over the cap, with their lengths."""
    lengths = ((module.path, len(module.text.splitlines())) for module in found)
    return [f"{path}: {lines} lines" for path, lines in lengths if lines > MODULE_LINES]


def long_functions(found: Iterable[Module]) -> list[str]:
    """Return the functions over the cap, docstring included, with their lengths."""
    return [
        f"{module.path}:{node.lineno} {node.name}: {_lines(node)} lines"
        for module in found
        for node in ast.walk(module.tree)
        if isinstance(node, Function) and _lines(node) > FUNCTION_LINES
    ]


def without_sentence(found: Iterable[Module]) -> list[str]:
    """Return the packages whose `__init__` does not say in one sentence what they are."""
    return [
        module.path
        for module in found
        if module.path.endswith("/__init__.py") and not _is_sentence(ast.get_docstring(module.tree))
    ]


def empty_names(paths: Iterable[str]) -> list[str]:
    """Return the paths with a part that says nothing, such as `utils`."""
    return [
        path
        for path in paths
        if EMPTY_NAMES & {PurePosixPath(part).stem for part in PurePosixPath(path).parts}
    ]


def clock_reads(found: Iterable[Module]) -> list[str]:
    """Return where a clock is read or waited on, under whatever name it was imported."""
    return [
        f"{module.path}:{line} {name}"
        for module in found
        for line, name in _names_used(module.tree)
        if name in CLOCK_READS
    ]


def patches(found: Iterable[Module]) -> list[str]:
    """Return where a test replaces a part of the product instead of passing it in."""
    return [
        f"{module.path}:{line} {name}"
        for module in found
        for line, name in _names_used(module.tree)
        if PATCH.match(name)
    ]


def stray_metrics(found: Iterable[Module]) -> list[str]:
    """Return where metrics are declared besides their own module, or their library is known.

    Telemetry and the processes show what was counted, so the rest of the library is free there.
    """
    return [
        f"{module.path}:{line} {name}"
        for module in found
        if module.path != METRICS_HOME
        for line, name in _names_used(module.tree)
        if name.startswith("prometheus_client")
        and (_is_deep(module.path) or name.rpartition(".")[2] in METRIC_CLASSES)
    ]


def metric_names(home: Module) -> list[str]:
    """Return the names of the metrics that this module declares."""
    return [
        node.args[0].value
        for node in ast.walk(home.tree)
        if isinstance(node, ast.Call)
        and _dotted(node.func).rpartition(".")[2] in METRIC_CLASSES
        and node.args
        and isinstance(node.args[0], ast.Constant)
    ]


def first_cells(markdown: str) -> set[str]:
    """Return what stands in backticks in the first column of the tables."""
    cells = re.findall(r"^\|([^|]*)\|", markdown, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def dead_links(path: str, markdown: str, known: Collection[str]) -> list[str]:
    """Return the relative links that lead to nothing; `known` are files, from the root."""
    folders = {str(parent) for name in known for parent in PurePosixPath(name).parents}
    prose = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose)
    return [
        f"{path}: {link}"
        for link in links
        if "://" not in link
        and posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
        not in {*known, *folders}
    ]


def names_a_host(text: str) -> list[str]:
    """Return the lines of a lock file that say where to download from."""
    options = ("--index-url", "--extra-index-url", "--find-links", "-i ", "-f ")
    return [line for line in text.splitlines() if "://" in line or line.strip().startswith(options)]


def machine_facts(path: str, text: str) -> list[str]:
    """Return the lines that only make sense on one machine."""
    return [
        f"{path}:{number} {line.strip()[:80]}"
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATH.search(line) or REGISTRY_HOST.search(line)
    ]


def _is_deep(path: str) -> bool:
    return path.startswith("shared/") and not path.startswith(METRICS_FOLDER)


def _lines(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _is_sentence(text: str | None) -> bool:
    # A full stop inside, before a space, would make it two.
    return text is not None and text.endswith(".") and "\n\n" not in text and ". " not in text


def _names_used(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield every import and attribute by its full name, `import time as t` resolved."""
    full: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                full[alias.asname or alias.name] = alias.name
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield node.lineno, f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, dot, rest = _dotted(node).partition(".")
            yield node.lineno, full.get(first, first) + dot + rest


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""
