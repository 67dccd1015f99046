"""Random schedules of faults: every promise is kept after every step. ``STILLHERE_SEEDS=0-2999`` looks further."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from stillhere.core.words import Cause
from stillhere.server.settings import load_settings
from stillhere.simulation import FaultKind, Plan, simulate
from stillhere.simulation.command import main, seeds_of
from stillhere.simulation.world import World

pytestmark = pytest.mark.no_cover
"""What is measured are the tests of the core; tracing would double the time of these."""

CHUNK = 25
SEEDS = seeds_of(os.environ.get("STILLHERE_SEEDS", "0-299"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, len(SEEDS), CHUNK), ids=lambda first: f"from-{SEEDS[first]}")
def test_every_promise_is_kept(first: int) -> None:
    for seed in SEEDS[first : first + CHUNK]:
        report = simulate(seed)
        assert report.ok, f"make simulate SEEDS={seed}\n" + "\n".join(map(str, report.violations))


def test_a_seed_repeats_itself_whatever_the_order_of_sets() -> None:
    program = (
        "from stillhere.simulation import simulate;"
        "r = simulate(7, trace=True); print(r.steps, r.requests, r.frames, r.story(''))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize("seed", [2, 253])
def test_a_seed_repeats_itself_whatever_ran_before(seed: int) -> None:
    first, others, again = simulate(seed, trace=True), simulate(seed + 1), simulate(seed, trace=True)
    assert others.steps != first.steps
    assert first.story("") == again.story("") and first.steps == again.steps


def test_a_schedule_is_not_a_calm_one() -> None:
    plans = [Plan.of(seed) for seed in range(100)]
    kinds = {fault.kind for plan in plans for fault in plan.faults}
    assert kinds == set(FaultKind)
    report = simulate(1)
    assert report.requests > 500 and report.transitions > 10 and report.frames > 50


def test_users_may_try_settings_of_their_own_on_every_node() -> None:
    flags = {"auth.secret": "x" * 40, "server.node": "mine", "grace.abnormal": 2000}
    worlds: list[World] = []
    report = simulate(3, load_settings(None, {}, flags), script=worlds.append)
    assert report.ok, report.violations
    servers = worlds[0].servers
    assert [server.settings.server.node for server in servers] == ["n0", "n1", "n2"]
    assert {server.settings.grace.policy.window(Cause.ABNORMAL) for server in servers} == {2.0}


@pytest.mark.parametrize(("text", "seeds"), [("17", [17]), ("0-3", [0, 1, 2, 3]), ("1,5,8-9", [1, 5, 8, 9])])
def test_seeds_are_read(text: str, seeds: list[int]) -> None:
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1-", "-3", "1,,2"])
def test_seeds_that_are_none_are_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="right would be"):
        seeds_of(text)


def test_the_command_says_what_was_done_and_how_to_see_a_failure_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0-1", "--jobs", "1"]) == 0
    assert "2 schedules" in capsys.readouterr().out
    assert main(["0-1", "--jobs", "1", "--mutant", "held is gone"]) == 1
    assert "again: make simulate SEEDS=0" in capsys.readouterr().out
    assert main(["--trace", "0"]) == 0
    assert "PRESENCE_ONLINE" in capsys.readouterr().out
