"""Stories that once went wrong, each with its seeds: nothing may be wrong any more."""

from __future__ import annotations

import pytest

from stillhere.simulation import Fault
from tests.simulation import scenarios as s

pytestmark = pytest.mark.no_cover
"""What is measured are the tests of the core; tracing would double the time of these."""


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("script", "faults"),
    [
        pytest.param(s.jump_and_bye, s.BACK_AN_HOUR, id="a-bye-before-the-clock-went-back-covers-nothing-after-it"),
        pytest.param(s.past_window_in_a_hold, s.OUTAGE, id="an-end-told-after-an-outage-waits-for-the-hold"),
        pytest.param(s.come_and_go, s.FORGOTTEN_IN_THE_PAST, id="a-lower-epoch-is-read-as-well"),
        pytest.param(s.paused_and_reaped, s.RESTART, id="told-again-a-connection-does-not-supersede-itself"),
        pytest.param(s.gap_hold, s.GAP_HOLD, id="who-came-back-during-an-outage-is-heard-first"),
        pytest.param(s.shed_departure, s.CUT_SHORTLY, id="a-bye-ends-the-window-of-which-the-news-come-late"),
        pytest.param(s.beats_unanswered, s.CUT_FOR_LONG, id="without-one-renewal-answered-a-node-knows-the-others"),
    ],
)
def test_the_story_ends_well(script: s.Script, faults: tuple[Fault, ...], seed: int) -> None:
    report = s.play(script, *faults, seed=seed)
    assert report.ok, report.violations
