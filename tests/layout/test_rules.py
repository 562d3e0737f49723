"""Every rule finds what it looks for: each gets a planted sample that breaks it."""

import pytest

from tests.layout import rules
from tests.layout.sources import module_of


def planted(text, path="shared/sample.py"):
    return [module_of(path, text)]


def test_long_modules_are_found():
    assert [] == rules.long_modules(planted("x = 1\n" * 400))
    assert ["shared/sample.py: 401 lines"] == rules.long_modules(planted("x = 1\n" * 401))


def test_long_functions_are_found():
    assert [] == rules.long_functions(planted("def f():\n" + "    x = 1\n" * 59))
    assert ["shared/sample.py:1 f: 61 lines"] == rules.long_functions(
        planted("async def f():\n" + "    x = 1\n" * 60)
    )


@pytest.mark.parametrize(
    ("text", "is_sentence"),
    [
        ('"""Rings the bell, and nothing else."""', True),
        ("", False),
        ('"""Rings the bell"""', False),
        ('"""Rings the bell. Does more."""', False),
        ('"""Rings the bell.\n\nDoes more."""', False),
    ],
)
def test_packages_without_one_sentence_are_found(text, is_sentence):
    path = "shared/sample/__init__.py"

    assert ([] if is_sentence else [path]) == rules.without_sentence(planted(text, path))


def test_empty_names_are_found():
    paths = ["shared/utils.py", "shared/common/rules.py", "tests/helpers.py", "shared/ids.py"]

    assert paths[:3] == rules.empty_names(paths)


@pytest.mark.parametrize(
    "text",
    [
        "import time\nnow = time.time()",
        "import time as t\nnow = t.monotonic()",
        "from time import perf_counter",
        "from datetime import datetime\nnow = datetime.now()",
        "import datetime as d\nnow = d.datetime.now(d.UTC)",
        "import asyncio\nwait = asyncio.sleep",
    ],
)
def test_clock_reads_are_found(text):
    assert rules.clock_reads(planted(text))


def test_types_of_time_are_no_clock_reads():
    text = "from datetime import UTC, datetime\nat = datetime.fromtimestamp(0, UTC)"

    assert [] == rules.clock_reads(planted(text))


@pytest.mark.parametrize(
    "text",
    [
        "from unittest." + "mock import patch",
        "import unittest." + "mock",
        "from unittest import mock",
        "def test(monkeypatch): monkeypatch." + "setattr('a.b', 1)",
        "def test(mocker): mocker.patch('a.b')",
    ],
)
def test_patches_are_found(text):
    assert rules.patches(planted(text, "tests/sample.py"))


def test_setting_the_environment_is_no_patch():
    text = "def test(monkeypatch): monkeypatch.setenv('A', '1')"

    assert [] == rules.patches(planted(text, "tests/sample.py"))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("shared/ledger/sample.py", "import prometheus_client"),
        ("api/sample.py", "from prometheus_client import Counter"),
        ("api/sample.py", "import prometheus_client as p\nx = p.Gauge('a', 'b')"),
    ],
)
def test_stray_metrics_are_found(path, text):
    assert rules.stray_metrics(planted(text, path))


def test_an_edge_may_show_the_metrics():
    text = "from prometheus_client import generate_latest"

    assert [] == rules.stray_metrics(planted(text, "api/sample.py"))


def test_metric_names_are_read():
    text = "from prometheus_client import Counter\nX = Counter('x_total', 'Help.', ['code'])"

    assert ["x_total"] == rules.metric_names(module_of(rules.METRICS_HOME, text))


def test_rows_are_read_from_the_first_column():
    page = "| code | status |\n|---|---|\n| `a` | `b` |\n| `c`, `d` | |\n\nAlso `e`.\n"

    assert {"a", "c", "d"} == rules.first_cells(page)


@pytest.mark.parametrize("line", ["--index-url x", "a @ git+ssh" + "://host/a", "    -f wheels"])
def test_hosts_in_a_lock_file_are_found(line):
    assert [line] == rules.names_a_host(f"a==1\n{line}\n")


@pytest.mark.parametrize(
    "line",
    ["see /" + "root/x", "in /" + "work/x", "at /" + "home/me/x", "from pypi" + ".org"],
)
def test_facts_about_one_machine_are_found(line):
    assert rules.machine_facts("a.md", line)


def test_paths_of_urls_are_no_facts_about_a_machine():
    assert [] == rules.machine_facts("a.md", "GET /v1/models; docs/root/plan.md; http://x/home/a")


def test_dead_links_are_found():
    page = "[a](b.md) [c](../d/) [e](f.md#g) [h](https://host/i) [j](k.md)\n```\n[l](m.md)\n```\n"

    assert ["docs/a.md: k.md"] == rules.dead_links(
        "docs/a.md", page, ["docs/b.md", "d/x.md", "docs/f.md"]
    )
