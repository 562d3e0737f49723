"""What a parser's complaint means for who wrote the file. Pure."""

import re
import tomllib

import yaml

from shared.config.mistakes import Mistake

_SPOT = re.compile(r" \(at (?:line (?P<line>\d+), column \d+|end of document)\)$")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_BEGINNINGS = (
    "while scanning a simple key",
    "while scanning a quoted scalar",
    "while scanning a double-quoted scalar",
    "while scanning a single-quoted scalar",
)
"""Where PyYAML stumbles long after the line that is to blame; the context has that line."""

_YAML_WORDS = (
    ("'\\t'", "; indent with spaces: YAML takes no tabs"),
    ("'@'", "; a value that begins with @ needs quotes"),
    ("'`'", "; a value that begins with ` needs quotes"),
    ("'%'", "; a value that begins with % needs quotes"),
    (
        "mapping values are not allowed",
        "; is this line indented like its siblings? A value with a colon and a space needs quotes",
    ),
    ("could not find expected ':'", "; a key needs a colon and a space after it"),
    ("expected <block end>", "; it must be indented exactly like the lines it belongs to"),
    ("found unexpected end of stream", "; a quote is opened and not closed"),
    (
        "found undefined alias",
        "; * means an alias in YAML: put a value that begins with * in quotes",
    ),
    ("but found another document", "; one file holds one document, without --- in it"),
)
_TOML_WORDS = (
    ("Cannot overwrite a value", "a key is given twice"),
    ("Cannot declare", "a table is given twice"),
    ("Cannot mutate immutable", "what {...} or [...] has closed cannot be extended"),
    ("Cannot redefine namespace", "a table is given twice"),
    ("Expected '=' after a key", "a key needs = and a value after it"),
    (
        "Invalid initial character for a key",
        "a key must stand here; a name with spaces needs quotes",
    ),
    ("Invalid value", "not a value: text needs quotes, and true and false are lower case"),
    ("Illegal character '\\n'", "a quote is opened and not closed in this line"),
    ("Unterminated string", "a quote is opened and not closed"),
    ("Unclosed array", "a [ is opened and not closed"),
    (
        "Expected newline or end of document",
        "one key a line, and text needs quotes",
    ),
)


def yaml_mistake(error: yaml.YAMLError, text: str, file: str) -> Mistake:
    """Return where the text stops being YAML, and what to do about it."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        reason = str(error).splitlines()[0]
        return Mistake(file=file, message=f"not YAML: {reason}")
    mark = error.problem_mark
    if error.context in _BEGINNINGS and error.context_mark is not None:
        mark = error.context_mark
    problem = error.problem or error.context or "cannot be read"
    guilty = "".join(text.splitlines()[mark.line : mark.line + 1])
    return Mistake(
        file=file,
        line=mark.line + 1,
        message=f"not YAML: {problem}{_yaml_hint(error, problem, guilty)}",
    )


def _yaml_hint(error: yaml.MarkedYAMLError, problem: str, guilty: str) -> str:
    if guilty[: len(guilty) - len(guilty.lstrip())].count("\t"):
        return "; indent with spaces: YAML takes no tabs"
    if error.context == "while scanning an alias" or "undefined alias" in problem:
        return "; * means an alias in YAML: a value that begins with * needs quotes"
    if "${" in _QUOTED.sub("", guilty):
        # A bare ${NAME} inside {...} is the usual reason: its braces are YAML's own there.
        return '; inside {} write "${NAME}" with quotes'
    opened = error.context_mark
    if opened is not None and (error.context or "").startswith("while parsing a flow"):
        bracket = "[" if "sequence" in str(error.context) else "{"
        return f"; a comma is missing, or the {bracket} of line {opened.line + 1} is not closed"
    return next((hint for words, hint in _YAML_WORDS if words in problem), "")


def toml_mistake(error: tomllib.TOMLDecodeError, text: str, file: str) -> Mistake:
    """Return where the text stops being TOML, and what to do about it."""
    told = str(error)
    spot = _SPOT.search(told)
    line = int(spot["line"]) if spot and spot["line"] else max(1, len(text.splitlines()))
    told = told[: spot.start()] if spot else told
    meaning = next((hint for words, hint in _TOML_WORDS if words in told), told)
    return Mistake(file=file, line=line, message=f"not TOML: {meaning}")
