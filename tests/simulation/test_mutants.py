"""Every rule that the checks are to guard is broken once, and the checks must notice; without that they are silent."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from stillhere.simulation import Fault
from stillhere.simulation.mutants import COVERED, MUTANTS, mutated
from tests.simulation import scenarios as s

pytestmark = pytest.mark.no_cover
"""What is measured are the tests of the core; tracing would double the time of these."""

SEEDS = range(6)
"""Delays, and who is first, depend on them: one of them must show it."""


class Case(NamedTuple):
    """Where a mutant shows."""

    script: s.Script
    faults: tuple[Fault, ...] = ()
    plan: dict[str, Any] = {}  # noqa: RUF012 - of a tuple that nobody changes


TWO = {"partitions": 2}
CASES = {
    "no clamp": Case(s.clock_jumps_in_a_window, s.AHEAD_AN_HOUR),
    "no gap hold": Case(s.gap_hold, s.GAP_HOLD),
    "no recovery hold": Case(s.slow_to_return, s.LATER_LOSS),
    "no epoch": Case(s.back_after_failover, s.FAILOVER),
    "epoch without time and nonce": Case(s.come_and_go, s.FORGOTTEN_EPOCH),
    "epoch without nonce": Case(s.nobody, s.SAME_EPOCH),
    "no empty guard": Case(s.one_of_two_tabs, s.FLUSH),
    "no fence": Case(s.paused_and_reaped, s.LONG_PAUSE),
    "no channel": Case(s.late_close),
    "no revision, no channel": Case(s.late_close),
    "newest window": Case(s.two_windows),
    "blind sweep": Case(s.one_of_two_tabs),
    "no departures": Case(s.shed_departure, s.CUT_SHORTLY),
    "no kick of strangers": Case(s.kicked_unknown),
    "ends taken over are forgotten": Case(s.two_ends_told_again),
    "renewals alone name nodes": Case(s.beats_unanswered, s.CUT_FOR_LONG),
    "no upgrades": Case(s.slowly_admitted, plan={"slow_admission": True}),
    "no doubtful": Case(s.ghost_of_failover, s.FAILOVER),
    "no re-emit": Case(s.back_after_failover, s.FAILOVER),
    "mark after join": Case(s.half_joined, s.RESTART, TWO),
    "no digest": Case(s.silent_rollback),
    "offline in recovery": Case(s.slow_to_return, s.LATER_LOSS),
    "gap unnoticed": Case(s.much_happens_meanwhile, s.CUT_FROM_THE_LOG, {"retention": 5}),
    "starving unnoticed": Case(s.comes_while_the_reader_jams, s.JAM),
    "one loss of two": Case(s.two_partitions_lost, s.LOSS, TWO),
    "held is gone": Case(s.two_windows),
}


def _found(case: Case, mutant: str | None) -> list[str]:
    with mutated(mutant):
        for seed in SEEDS:
            report = s.play(case.script, *case.faults, seed=seed, **case.plan)
            if not report.ok:
                return [f"seed {seed}: {violation}" for violation in report.violations]
    return []


def test_every_mutant_has_a_case_or_is_covered() -> None:
    assert set(CASES) | set(COVERED) == set(MUTANTS)


@pytest.mark.parametrize("mutant", sorted(COVERED))
def test_what_another_defence_covers_is_noticed_as_soon_as_that_one_is_broken_too(mutant: str) -> None:
    case = CASES[COVERED[mutant]]
    assert _found(case, mutant) == []
    assert _found(case, COVERED[mutant])


@pytest.mark.parametrize("mutant", sorted(CASES))
def test_the_mutant_is_noticed(mutant: str) -> None:
    assert _found(CASES[mutant], mutant), f"nobody notices {mutant!r}"


@pytest.mark.parametrize("mutant", sorted(CASES))
def test_without_the_mutant_nothing_is_wrong(mutant: str) -> None:
    assert _found(CASES[mutant], None) == []


def test_a_mutant_leaves_nothing_behind() -> None:
    for mutant in MUTANTS:
        before = [(of, name, vars(of)[name]) for of, name, _ in MUTANTS[mutant]()]
        with mutated(mutant):
            assert any(vars(of)[name] is not value for of, name, value in before)
        assert all(vars(of)[name] is value for of, name, value in before)
