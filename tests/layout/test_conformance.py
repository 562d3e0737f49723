"""Every behaviour of the conformance page is shown by a test, or excused in one line."""

import json

from tests.layout import conformance
from tests.layout.sources import module_of, text_of

PAGE = text_of(conformance.PAGE)
NUMBERS = set(range(1, conformance.LAST + 1))


def test_the_page_has_every_number_once():
    assert sorted(NUMBERS) == list(conformance.numbered(PAGE))


def test_every_mark_has_numbers_of_the_page():
    """The numbers are written out: what is computed cannot be read from the source."""
    assert set() == set(conformance.evidence()) - NUMBERS


def test_every_behaviour_is_shown_or_excused():
    assert set() == NUMBERS - set(conformance.evidence()) - set(conformance.excused(PAGE))


def test_few_are_excused_and_none_without_need():
    excused = set(conformance.excused(PAGE))

    assert len(excused) <= conformance.MOST_NOT_SHOWN
    assert set() == excused & set(conformance.evidence())


def test_the_page_is_made_from_the_tests():
    """`make docs` writes it."""
    assert PAGE == conformance.filled(PAGE, conformance.evidence())


def test_marks_are_found_wherever_pytest_allows_them():
    text = """
import pytest
pytestmark = [pytest.mark.behaviour(1)]
TABLE = [pytest.param(1, marks=pytest.mark.behaviour(2)), pytest.param(2)]

@pytest.mark.behaviour(3, 4)
def test_one(): ...

@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.behaviour(5))])
async def test_two(x): ...

@pytest.mark.behaviour(6)
class TestThree:
    @pytest.mark.behaviour(7)
    def test_four(self): ...

@pytest.mark.behaviour(*range(8, 9))
def test_computed(): ...
"""
    path = "tests/sample.py"

    assert {
        (1, path, "pytestmark"),
        (2, path, "TABLE"),
        (3, path, "test_one"),
        (4, path, "test_one"),
        (5, path, "test_two"),
        (6, path, "TestThree"),
        (7, path, "TestThree.test_four"),
        (0, path, "test_computed"),
    } == set(conformance.shown([module_of(path, text)]))


def test_golden_cases_carry_numbers_too():
    cases = {"tests/golden/a/b.json": json.dumps({"behaviours": [9]}), "c.json": "{}"}

    assert [(9, "tests/golden/a/b.json", "b")] == list(conformance.shown_by_data(cases))


def test_the_last_column_is_replaced():
    page = "# A\n\n| # | behaviour | shown by |\n|---|---|---|\n| 1 | x \\| y | [old](old.py) |\n"
    found = {1: [("tests/t.py", f"test_{number}") for number in range(4)]}
    row = (
        "| 1 | x \\| y | [test_0](../../tests/t.py), [test_1](../../tests/t.py), "
        "[test_2](../../tests/t.py) and 1 more |\n"
    )

    assert page.replace("| 1 | x \\| y | [old](old.py) |\n", row) == conformance.filled(page, found)
