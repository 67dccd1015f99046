"""``python -m bench.guard``: has Stillhere become more expensive, compared with `ws` in the same minutes?

CPU figures of one machine say little on another, and little on the same one an hour later. The ratio to a peer that
does the same job, measured in turns with it, says much. This compares such ratios with those that ``bench/guard.json``
keeps, and fails where one has grown by more than 15 % beyond what the spread of both can explain. Where the spread is
so wide that a regression could hide in it, it says so and has no verdict.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

import msgspec
import uvloop

from bench.adapters import HERE, PEERS
from bench.machine import describe
from bench.plan import Figures, Plan
from bench.running import measure, need_linux, say
from bench.stand import Failed, raise_file_limit

BASELINE = HERE / "guard.json"

PHASES = {"tracked": "connect_join_us", "room": "room_us", "watch": "watch_us", "burst": "burst_us"}
"""Phases, and the figure of each. Not `storm`: it is over in a few ticks of the kernel's clock."""

ALLOWED = 0.15
"""By which share a ratio may grow."""

WIDEST = 0.25
"""A spread above this, as a share of the ratio, leaves no verdict."""

ROUNDS = 5
PLAN = Plan(connections=3000, watchers=1000, changes=100, sweeps=15, settle=0.5)
QUICK = Plan(connections=1000, watchers=500, changes=40, sweeps=5, settle=0.2)

LEFT, RIGHT = "stillhere", "ws"

Ratios = Mapping[str, Sequence[float]]


class Verdict(Enum):
    """What a comparison says."""

    HELD = "held"
    WORSE = "worse"
    UNDECIDED = "undecided"


class Finding(msgspec.Struct, frozen=True):
    """Of one figure."""

    figure: str
    before: float
    """The median ratio of the baseline."""
    now: float
    spread: float
    """Of both together, as a share."""
    verdict: Verdict

    @property
    def grown(self) -> float:
        """By which share the ratio has grown."""
        return self.now / self.before - 1


def spread(values: Sequence[float]) -> float:
    """Half the distance between the quartiles, as a share of the median; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / middle


def compare(figure: str, before: Sequence[float], now: Sequence[float]) -> Finding:
    """Judge one figure.

    A ratio is worse if its median has grown by more than :data:`ALLOWED` and the spreads of both sides together. If
    they are wider than :data:`WIDEST` it is undecided, unless it has grown by more than even that and the allowance.

    Args:
        figure: its name.
        before: ratios of the baseline, one per round.
        now: ratios of this run.

    Raises:
        ValueError: there is nothing to compare.
    """
    if not before or not now:
        raise ValueError(f"{figure}: there are {len(before)} ratios in the baseline and {len(now)} now")
    was, is_ = statistics.median(before), statistics.median(now)
    both = spread(before) + spread(now)
    if is_ / was - 1 > ALLOWED + both:
        verdict = Verdict.WORSE
    elif both > WIDEST:
        verdict = Verdict.UNDECIDED
    else:
        verdict = Verdict.HELD
    return Finding(figure, was, is_, both, verdict)


def decide(before: Ratios, now: Ratios) -> list[Finding]:
    """Judge all figures of the baseline.

    Raises:
        ValueError: one of them was not measured now.
    """
    return [compare(figure, ratios, now.get(figure, ())) for figure, ratios in before.items()]


def status(findings: Sequence[Finding]) -> int:
    """The exit status: 1 for a regression, 2 where there is no verdict, else 0."""
    verdicts = {finding.verdict for finding in findings}
    return 1 if Verdict.WORSE in verdicts else 2 if Verdict.UNDECIDED in verdicts else 0


def told(finding: Finding) -> str:
    """A line for people."""
    return (
        f"{finding.figure:<16} {finding.now:6.3f} of {RIGHT}, before {finding.before:6.3f}: {finding.grown:+6.1%}, "
        f"spread ±{finding.spread:.1%}: {finding.verdict.value}"
    )


async def ratios(plan: Plan, rounds: int) -> dict[str, list[float]]:
    """Measure; within a round the two take turns phase by phase, and who begins changes from round to round.

    Raises:
        Failed: one of them did not do its work.
    """
    found: dict[str, list[float]] = {figure: [] for figure in PHASES.values()}
    begin = time.monotonic()
    for turn in range(rounds):
        for phase, figure in PHASES.items():
            values: dict[str, Figures] = {}
            for name in (LEFT, RIGHT) if turn % 2 else (RIGHT, LEFT):
                values[name] = await measure(PEERS[name], phase, plan)
            ratio = values[LEFT][figure] / values[RIGHT][figure]
            found[figure].append(ratio)
            say(
                f"[{time.monotonic() - begin:5.0f} s] round {turn + 1}/{rounds} {phase:<8} {figure} "
                f"{values[LEFT][figure]:.4g} / {values[RIGHT][figure]:.4g} = {ratio:.3f}"
            )
    return found


def save(path: Path, machine: Mapping[str, object], plan: Plan, found: Ratios) -> None:
    """Make this the baseline."""
    document = {
        "of": f"CPU of {LEFT} / CPU of {RIGHT}, one ratio per round",
        "machine": machine,
        "plan": msgspec.to_builtins(plan),
        "ratios": {figure: [round(value, 4) for value in values] for figure, values in found.items()},
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def baseline(path: Path, plan: Plan) -> Ratios:
    """The ratios that are kept.

    Raises:
        SystemExit: there are none, or they were measured with other sizes.
    """
    if not path.exists():
        raise SystemExit(f"there is no {path.name}; make one with: python -m bench.guard --update")
    document = json.loads(path.read_text())
    if msgspec.convert(document["plan"], Plan) != plan:
        raise SystemExit(f"{path.name} was measured with other sizes; make a new one with --update")
    kept: dict[str, list[float]] = document["ratios"]
    return kept


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.guard",
        description="Compare the CPU ratios of Stillhere and ws with those that are kept. Exit status 1: a regression; "
        "2: too noisy to tell.",
    )
    parser.add_argument("--update", action="store_true", help="keep this run's ratios as the new baseline")
    parser.add_argument("--quick", action="store_true", help="smaller; shows the ratios, and compares nothing")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args(argv)
    need_linux()
    if given.rounds < 1 or (given.update and (given.quick or given.rounds < ROUNDS)):
        raise SystemExit(f"a baseline needs {ROUNDS} rounds at full size; a comparison at least one round")
    plan = QUICK if given.quick else PLAN
    kept = {} if given.update or given.quick else baseline(BASELINE, plan)
    raise_file_limit()
    try:
        PEERS[RIGHT].prepare()
        machine = describe()
        say(f"{machine['cpu']}, {machine['cpus']} CPUs, load {machine['load']}")
        found = uvloop.run(ratios(plan, given.rounds))
    except Failed as fault:
        say(f"FAILED: {fault}")
        return 1
    if given.update:
        save(BASELINE, machine, plan, found)
        say(f"kept in {BASELINE.name}")
    if not kept:
        for figure, values in found.items():
            print(f"{figure:<16} {statistics.median(values):6.3f} of {RIGHT}, spread ±{spread(values):.1%}")
        return 0
    findings = decide(kept, found)
    print("\n".join(map(told, findings)))
    return status(findings)


if __name__ == "__main__":
    sys.exit(main())
