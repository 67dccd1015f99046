"""The store clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stillhere.core.clock import ClockLimits, StoreClock

LIMITS = ClockLimits()


def ticked(*instants: float, limits: ClockLimits = LIMITS) -> StoreClock:
    clock = StoreClock()
    for now in instants:
        clock.tick(now, limits)
    return clock


def test_the_first_tick_starts_the_clock_and_is_no_jump() -> None:
    clock = ticked(1e9)
    assert clock.value == 0.0 and not clock.on_hold


def test_the_clock_advances_with_the_time_of_the_store() -> None:
    clock = ticked(100.0, 101.5, 104.5)
    assert clock.value == 4.5 and not clock.on_hold


def test_a_pause_moves_the_clock_by_a_step_and_holds_all_expiry() -> None:
    clock = ticked(100.0, 103.125)
    assert clock.value == 1.0
    assert clock.on_hold and clock.hold_until == 2.0
    clock.tick(104.0, LIMITS)
    assert clock.on_hold
    clock.tick(104.125, LIMITS)
    assert not clock.on_hold


def test_a_jump_back_holds_as_well_and_the_clock_never_goes_back() -> None:
    clock = ticked(100.0, 50.0)
    assert clock.value == 0.0
    assert clock.on_hold
    assert clock.tick(51.0, LIMITS) == 1.0


def test_a_small_step_back_is_no_jump() -> None:
    clock = ticked(100.0, 99.875)
    assert clock.value == 0.0 and not clock.on_hold


def test_a_clock_that_trembles_does_not_run_fast() -> None:
    clock = ticked(100.0, *[100.0 + (0.125 if n % 2 else 0.0) for n in range(1000)])
    assert clock.value == 0.125


def test_trouble_after_trouble_holds_from_the_last_one() -> None:
    clock = ticked(0.0, 100.0, 200.0)
    assert clock.value == 2.0 and clock.hold_until == 3.0
    clock = ticked(0.0, 100.0, limits=ClockLimits(gap_hold=9.0))
    clock.tick(200.0, LIMITS)
    assert clock.hold_until == 10.0, "a longer hold stays"


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=30))
def test_the_clock_never_goes_back_and_never_runs_ahead_of_the_store(instants: list[float]) -> None:
    clock = StoreClock()
    values = [clock.tick(now, LIMITS) for now in instants]
    assert values == sorted(values)
    assert values[-1] <= max(instants) - min(instants) + len(instants) * LIMITS.gap_step
