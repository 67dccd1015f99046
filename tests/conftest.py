"""What all tests have in common: their order, and how Hypothesis works."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.remote import Producer

    from tests.turns import Turns

TIERS = ("architecture", "unit", "contract", "simulation", "acceptance")
"""The order of the folders, the quick and telling ones first."""

# A shared machine is no ground for a verdict on speed, so no example has a deadline. `default` finds the same
# examples every time, so that a run says something about the change under test and not about luck; `search` looks
# for new ones; `quick` is for mutants.
settings.register_profile(
    "default", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", parent=settings.get_profile("default"), derandomize=False, max_examples=1000)
settings.register_profile("quick", parent=settings.get_profile("default"), max_examples=30)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by tier; within one, keep the order in which the tests were written."""
    here = Path(__file__).parent

    def tier(item: pytest.Item) -> int:
        folder = item.path.relative_to(here).parts[0] if item.path.is_relative_to(here) else ""
        return TIERS.index(folder) if folder in TIERS else len(TIERS)

    items.sort(key=tier)


@pytest.hookimpl(optionalhook=True)  # there is none without pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Turns | None:
    """Several processes take turns as ``tests/turns.py`` says."""
    from tests.turns import Turns

    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # the order of the tests, not the longest file first
    return Turns(config, log)
