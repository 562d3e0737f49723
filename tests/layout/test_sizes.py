"""Everything fits a screen and a head."""

from statistics import median

from tests.layout.rules import long_functions, long_modules
from tests.layout.sources import PRODUCT, modules

MEDIAN_LINES = 150


def test_no_module_is_over_the_cap():
    assert [] == long_modules(modules(*PRODUCT))


def test_no_function_is_over_the_cap():
    assert [] == long_functions(modules(*PRODUCT))


def test_the_median_module_is_short():
    """The `__init__` files do not count, or the median would say nothing."""
    found = [module for module in modules(*PRODUCT) if not module.path.endswith("__init__.py")]

    assert median(len(module.text.splitlines()) for module in found) < MEDIAN_LINES
