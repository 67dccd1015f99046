"""The verdict of `make bench-guard`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.guard import BASELINE, PHASES, PLAN, Verdict, baseline, compare, decide, save, spread, status, told

CALM = [0.90, 0.91, 0.92, 0.91, 0.90]


def times(factor: float, ratios: list[float] | None = None) -> list[float]:
    return [value * factor for value in ratios or CALM]


@pytest.mark.parametrize("factor", [0.5, 0.95, 1.0, 1.05, 1.14])
def test_a_ratio_that_grew_by_less_than_fifteen_percent_has_held(factor: float) -> None:
    assert compare("room_us", CALM, times(factor)).verdict is Verdict.HELD


@pytest.mark.parametrize("factor", [1.2, 1.5, 3.0])
def test_a_ratio_that_grew_by_more_than_fifteen_percent_and_its_spread_is_a_regression(factor: float) -> None:
    finding = compare("room_us", CALM, times(factor))
    assert finding.verdict is Verdict.WORSE
    assert finding.grown == pytest.approx(factor - 1)


def test_a_growth_that_the_spread_explains_is_no_regression() -> None:
    wide = [0.8, 0.9, 0.91, 1.0, 1.05]
    assert compare("room_us", wide, times(1.2, wide)).verdict is Verdict.HELD
    assert compare("room_us", CALM, times(1.2)).verdict is Verdict.WORSE, "the same growth with a narrow spread"


def test_one_odd_round_is_no_regression() -> None:
    assert compare("room_us", CALM, [0.9, 0.91, 4.0, 0.92, 0.9]).verdict is Verdict.HELD


def test_a_machine_that_is_too_noisy_gets_no_verdict_rather_than_a_pass() -> None:
    noisy = [0.5, 0.7, 0.9, 1.2, 1.6]
    assert compare("room_us", CALM, noisy).verdict is Verdict.UNDECIDED


def test_a_regression_is_seen_through_noise_that_cannot_explain_it() -> None:
    assert compare("room_us", CALM, [2.0, 2.5, 3.0, 3.6, 4.4]).verdict is Verdict.WORSE


def test_the_spread_is_half_the_distance_of_the_quartiles() -> None:
    assert spread([1.0]) == 0.0
    assert spread([0.8, 0.9, 1.0, 1.1, 1.2]) == pytest.approx(0.1)


def test_a_regression_outweighs_doubt_and_doubt_outweighs_a_pass() -> None:
    held = compare("a", CALM, CALM)
    worse = compare("b", CALM, times(2.0))
    undecided = compare("c", CALM, [0.5, 0.7, 0.9, 1.2, 1.6])
    assert [status(found) for found in ([held], [held, worse, undecided], [held, undecided], [])] == [0, 1, 2, 0]
    assert "+100.0%" in told(worse) and "worse" in told(worse)


def test_a_figure_that_was_not_measured_is_an_error_and_not_a_pass() -> None:
    with pytest.raises(ValueError, match="room_us: there are 5 ratios in the baseline and 0 now"):
        decide({"room_us": CALM}, {})


def test_a_baseline_of_other_sizes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "guard.json"
    with pytest.raises(SystemExit, match="--update"):
        baseline(path, PLAN)
    save(path, {"cpu": "a machine"}, PLAN, {"room_us": CALM})
    assert baseline(path, PLAN) == {"room_us": CALM}
    document = json.loads(path.read_text())
    document["plan"]["watchers"] = 10
    path.write_text(json.dumps(document))
    with pytest.raises(SystemExit, match="other sizes"):
        baseline(path, PLAN)


def test_the_kept_baseline_has_every_figure_and_the_machine_it_was_measured_on() -> None:
    kept = baseline(BASELINE, PLAN)
    assert set(kept) == set(PHASES.values())
    assert all(len(ratios) >= 5 and min(ratios) > 0 for ratios in kept.values())
    assert json.loads(BASELINE.read_text())["machine"]["cpu"]
