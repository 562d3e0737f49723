"""What stands in the text below each field of a section: its meaning in the file. Pure."""

import ast
import functools
import inspect
import itertools
import textwrap
from collections.abc import Mapping

from shared.config.section import Section


@functools.cache
def meanings(section: type[Section]) -> Mapping[str, str]:
    """Return the meaning of every field that has one, inherited ones included, on one line each."""
    found: dict[str, str] = {}
    for one in reversed(section.__mro__):
        if issubclass(one, Section):
            found |= _own(one)
    return found


def _own(section: type[Section]) -> dict[str, str]:
    parsed = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    body = parsed.body if isinstance(parsed, ast.ClassDef) else []
    return {
        field.target.id: " ".join(below.value.value.split())
        for field, below in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }
