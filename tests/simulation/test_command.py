"""The command tells what it found, whatever becomes of single seeds and of itself."""

from __future__ import annotations

import pytest

from stillhere.simulation import Plan, Report, Violation, command


def test_a_seed_at_which_the_simulation_fails_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(seed: int, mutant: str | None = None) -> Report:
        if seed == 2:
            raise ZeroDivisionError("no such schedule")
        return Report(Plan.of(seed), seconds=36.0, requests=10)

    monkeypatch.setattr(command, "run", run)
    assert command.main(["0-99", "--jobs", "1"]) == 1
    told = capsys.readouterr().out
    assert "100 schedules, 1.0 virtual hours" in told
    assert "990 requests" in told
    assert "violations: 1 of failure" in told
    assert "ZeroDivisionError('no such schedule')" in told


def test_an_interrupted_run_tells_what_it_found_so_far(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(seed: int, mutant: str | None = None) -> Report:
        if seed == 3:
            raise KeyboardInterrupt
        return Report(Plan.of(seed), violations=[Violation(1.0, "I1", "gone")] if seed == 1 else [])

    monkeypatch.setattr(command, "run", run)
    assert command.main(["0-9", "--jobs", "1"]) == 130
    told = capsys.readouterr().out
    assert "interrupted after 3 of 10 schedules" in told
    assert "violations: 1 of I1" in told
    assert "again: make simulate SEEDS=1" in told
