"""Habits that no linter knows: one clock, one home for metrics, no patches."""

from tests.layout.rules import clock_reads, patches, stray_metrics
from tests.layout.sources import PRODUCT, modules


def test_only_the_clock_module_reads_a_clock():
    """The embedded stack supervises real processes, so `compose` is free."""
    found = modules("api", "workers", "scheduler", "shared")

    assert [] == clock_reads(module for module in found if module.path != "shared/clock.py")


def test_metrics_are_declared_in_one_module():
    assert [] == stray_metrics(modules(*PRODUCT))


def test_no_test_patches():
    """If a test wants to patch, a seam is missing."""
    assert [] == patches(modules("tests"))
