"""Things lie where a reader looks for them."""

import re
from pathlib import PurePosixPath

from tests.layout.rules import empty_names, without_sentence
from tests.layout.sources import PRODUCT, modules, tracked

ALLOWED = {
    *PRODUCT,
    "docs",
    "tests",
    "LICENSE",
    "Makefile",
    "README.md",
    "pyproject.toml",
    "requirements-dev.lock",
    "requirements.lock",
}
PLAN = re.compile(r"README\.md|(HIGH|MEDIUM|LOW)-[a-z0-9]+(-[a-z0-9]+)*\.md")


def test_the_top_level_stays_short():
    """Besides these there are only dotfiles."""
    top = {path.split("/")[0] for path in tracked()}

    assert set() == {name for name in top - ALLOWED if not name.startswith(".")}


def test_every_folder_of_modules_is_a_package():
    """But for the migrations, which Alembic loads by their paths."""
    folders = {str(PurePosixPath(module.path).parent) for module in modules(*PRODUCT)}
    found = {path for path in folders if "migrations" not in path}

    assert set() == {f"{path}/__init__.py" for path in found} - set(tracked())


def test_every_package_says_in_one_sentence_what_it_is():
    assert [] == without_sentence(modules(*PRODUCT))


def test_no_module_is_a_drawer():
    assert [] == empty_names(module.path for module in modules(*PRODUCT, "tests"))


def test_plans_say_how_urgent_they_are():
    names = [PurePosixPath(path).name for path in tracked() if path.startswith("docs/plans/")]

    assert [] == [name for name in names if not PLAN.fullmatch(name)]
