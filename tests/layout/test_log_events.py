"""The page on logs knows every event and its level as the code writes them."""

import ast
import re
from collections.abc import Iterator

from tests.layout.sources import PRODUCT, module_of, modules, text_of

LEVELS = {
    **{name: name for name in ("debug", "info", "warning", "error", "critical")},
    "exception": "error",
}
ROW = re.compile(r"^\| `([a-z_]+\.[a-z_]+)` \| (\w+) \|", re.MULTILINE)
BY_THEMSELVES = {
    ("request.served", "info"),
    ("request.bodies", "info"),
    ("log.dropped", "error"),
    ("log.failed", "error"),
}
"""Made without a logger: for speed, or because it is the writing that is in trouble."""


def logged(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield event and level of each call such as `log.info("job.claimed", …)`."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="log"), attr=level),
                args=[ast.Constant(value=str(event)), *_],
            ) if level in LEVELS:
                yield event, LEVELS[level]
            case _:
                pass


def test_every_event_has_a_row_and_every_row_is_an_event():
    found = {one for module in modules(*PRODUCT) for one in logged(module.tree)}
    written = ROW.findall(text_of("docs/reference/logs.md"))

    assert len(written) == len(set(written))
    assert sorted(found | BY_THEMSELVES) == written


def test_events_are_found():
    text = 'log.warning("a.b", x=1)\nlog.exception("c.d")\nlog.info(name)\nother.info("e.f")'

    assert [("a.b", "warning"), ("c.d", "error")] == list(logged(module_of("x.py", text).tree))
