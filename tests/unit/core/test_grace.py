"""The windows by cause."""

from __future__ import annotations

import pytest

from stillhere.core.grace import GRACE_MAX, OFFLINE_GRACE_CAUSES, PROFILES, GracePolicy
from stillhere.core.words import FINAL_CAUSES, Cause

TABLE = {
    Cause.CLIENT_CLOSE: (3, 2),
    Cause.GOING_AWAY: (8, 4),
    Cause.PAGE_HIDDEN: (8, 4),
    Cause.ABNORMAL: (15, 8),
    Cause.HEARTBEAT_LOST: (10, 5),
    Cause.EXPIRED: (15, 8),
    Cause.SLOW_CONSUMER: (15, 8),
    Cause.PROTOCOL_ERROR: (5, 3),
    Cause.NODE_DRAIN: (45, 20),
    Cause.NODE_LOST: (30, 10),
}
"""The design's table, typed anew."""


@pytest.mark.parametrize("cause", Cause)
def test_the_windows_are_those_of_the_design(cause: Cause) -> None:
    steady, fast = TABLE.get(cause, (0, 0))
    assert GracePolicy.of().window(cause) == GracePolicy.of("steady").window(cause) == steady
    assert GracePolicy.of("fast").window(cause) == fast


def test_departures_have_no_window_and_can_be_given_none() -> None:
    assert set(TABLE) == set(Cause) - FINAL_CAUSES == set(PROFILES["steady"]) == set(PROFILES["fast"])
    for cause in FINAL_CAUSES:
        with pytest.raises(
            ValueError, match=f"grace.{cause} cannot be set: {cause} is a departure and leaves no window"
        ):
            GracePolicy.of(overrides={cause: 1.0})


def test_one_setting_covers_the_ways_in_which_a_page_ends_its_connection() -> None:
    assert OFFLINE_GRACE_CAUSES == (Cause.CLIENT_CLOSE, Cause.GOING_AWAY, Cause.PAGE_HIDDEN)


def test_a_window_can_be_changed_alone() -> None:
    policy = GracePolicy.of("fast", {Cause.GOING_AWAY: 0.8})
    assert policy.window(Cause.GOING_AWAY) == 0.8
    assert policy.window(Cause.ABNORMAL) == 8.0


@pytest.mark.parametrize("seconds", [0.0, GRACE_MAX])
def test_a_window_may_be_nothing_or_as_long_as_the_bound(seconds: float) -> None:
    assert GracePolicy.of(overrides={Cause.ABNORMAL: seconds}).window(Cause.ABNORMAL) == seconds


@pytest.mark.parametrize(("seconds", "ms"), [(-0.001, "-1"), (300.001, "300001")])
def test_a_window_out_of_bounds_is_refused_with_its_value(seconds: float, ms: str) -> None:
    with pytest.raises(
        ValueError, match=rf"grace.abnormal is {ms} ms; it must lie between 0 and grace.max \(300000 ms\)"
    ):
        GracePolicy.of(overrides={Cause.ABNORMAL: seconds})


def test_the_bound_cuts_the_windows_of_the_profile() -> None:
    policy = GracePolicy.of(longest=5.0)
    assert policy.window(Cause.NODE_DRAIN) == 5.0
    assert policy.window(Cause.CLIENT_CLOSE) == 3.0


def test_an_unknown_profile_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"grace\.profile is 'slow'; it must be one of steady, fast"):
        GracePolicy.of("slow")
