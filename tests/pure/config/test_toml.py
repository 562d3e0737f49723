"""TOML says the same as YAML, mistakes and their lines included."""

import pytest

from shared.config.load import load_config
from shared.config.mistakes import ConfigError, Mistake
from shared.config.toml import parse_toml
from tests.pure.config.makers import KINDS

WRONG = """\
version = 1 # one
[providers.mock]
kind = "mok"
[providers."a b"]
kind = 'mock'
headers."x y" = "z"

[[routes]]
model = "m"
targets = [
  { provider = "mock", model = "x", weight = 0 }, # [ { "

  { provider = "mok", model = "y" }
  ,
]
timeouts.idle = 3
limits = { rpm = "7", tpm = 1.5 }
[routes.retry]
max_attempts = -1

[[routes]]
model = "n"
[[routes.targets]]
provider = "mock"
model = \"\"\"
two "lines" = [
\"\"\"
[[routes.targets]]
provider = 'mock'
modle = '''
x'''

[tenants]
"""
LINES = [
    (3, "providers.mock.kind"),
    (4, 'providers["a b"]'),
    (6, 'providers["a b"].headers["x y"]'),
    (11, "routes[0].targets[0].weight"),
    (13, "routes[0].targets[1].provider"),
    (16, "routes[0].timeouts.idle"),
    (17, "routes[0].limits.rpm"),
    (17, "routes[0].limits.tpm"),
    (19, "routes[0].retry.max_attempts"),
    (30, "routes[1].targets[1].modle"),
    (33, "tenants"),
]


def mistakes(tmp_path, text: str) -> list[Mistake]:
    path = tmp_path / "c.toml"
    path.write_text(text, newline="")
    with pytest.raises(ConfigError) as error:
        load_config(path, {}, KINDS)
    return list(error.value.mistakes)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_mistake_has_its_line(tmp_path, end):
    found = mistakes(tmp_path, WRONG.replace("\n", end))

    assert LINES == [(one.line, one.path) for one in found]
    assert {str(tmp_path / "c.toml")} == {one.file for one in found}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("version = 1\nversion = 1\n", 2, "a key is given twice"),
        ("[cache]\n[cache]\n", 2, "a table is given twice"),
        ("cache = {}\n[cache]\n", 2, "a table is given twice"),
        ("a = {b = 1}\na.c = 2\n", 2, "cannot be extended"),
        ("version\n", 1, "a key needs = and a value after it"),
        ("a = b\n", 1, "text needs quotes, and true and false are lower case"),
        ("a = True\n", 1, "text needs quotes"),
        ('a = "b\n', 1, "a quote is opened and not closed"),
        ("a = [1,\n", 1, "not TOML"),
        ("a = 1 b = 2\n", 1, "one key a line"),
        ("version: 1\n", 1, "a key needs = and a value after it"),
        ("[server\n", 1, "Expected ']'"),
        ("a = " + "[" * 5000, 0, "nested too deeply"),
    ],
)
def test_what_is_no_toml_says_where_and_why(tmp_path, text, line, words):
    [found] = mistakes(tmp_path, text)

    assert (line, True) == (found.line, words in found.message), found


def test_values_keep_their_text():
    root = parse_toml("a = 2.50\nb = true\nc = 2026-01-31\nd = 0x10\ne = 'x'\nf = 1_000")

    assert [
        ("2.50", True),
        ("true", True),
        ("2026-01-31", True),
        ("16", True),
        ("x", False),
        ("1000", True),
    ] == [(entry.value.text, entry.value.plain) for entry in root.entries]
