"""The Spin model: that it holds in its smallest scopes, and that it would notice a broken rule."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "docs" / "model" / "run.sh"

pytestmark = pytest.mark.skipif(
    not (shutil.which("spin") and shutil.which("gcc")),
    reason="spin and gcc are not installed (`make model` says how); the model is not part of the package",
)


def check(*cases: str) -> dict[str, str]:
    """Run some cases; returns the result of each."""
    done = subprocess.run([RUN, *cases], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in done.stdout.splitlines()]
    return {row[0]: row[2] for row in rows[2:]}


def test_nobody_is_shown_offline_early_or_for_ever_in_the_smallest_scope() -> None:
    assert check("small") == {"small": "holds"}


def test_the_model_notices_that_requests_of_an_older_line_are_not_refused() -> None:
    assert check("NOCHANNEL") == {"NOCHANNEL": "refuted"}
