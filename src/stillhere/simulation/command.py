"""The command: many seeds, side by side, and what they found."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from stillhere.simulation.mutants import MUTANTS, mutated
from stillhere.simulation.report import Report
from stillhere.simulation.world import faults_of, simulate

_BAR = 30
_SHOWN = 10
"""Failing seeds that are told in full."""


def seeds_of(text: str) -> list[int]:
    """``17``, ``0-299`` or ``1,5,20-30``.

    Raises:
        ValueError: naming the part that is none of these.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError(f"seeds are {text!r}; right would be 17, 0-299 or 1,5,20-30")
        seeds.extend(range(int(first), int(last if dash else first) + 1))
    return seeds


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit status: 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m stillhere.simulation", description=__doc__)
    parser.add_argument("seeds", nargs="?", default="0-299", help="17, 0-299 or 1,5,20-30 (0-299 if absent)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes side by side")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="break a rule, and see whether it is noticed")
    parser.add_argument("--trace", type=int, metavar="SEED", help="tell the whole story of one seed")
    parser.add_argument("--user", help="with --trace: only what concerns this user")
    options = parser.parse_args(arguments)
    if options.trace is not None:
        return _tell(options.trace, options.mutant, options.user)
    try:
        seeds = seeds_of(options.seeds)
    except ValueError as error:
        parser.error(str(error))
    return _many(seeds, max(1, options.jobs), options.mutant)


def run(seed: int, mutant: str | None = None, *, trace: bool = False) -> Report:
    """One seed, with a rule broken if a mutant is named."""
    with mutated(mutant):
        return simulate(seed, trace=trace)


def _run(job: tuple[int, str | None]) -> Report:
    return run(*job)


def _many(seeds: list[int], jobs: int, mutant: str | None) -> int:
    begin = time.monotonic()
    reports: list[Report] = []
    work = [(seed, mutant) for seed in seeds]
    for report in _results(work, min(jobs, len(work))):
        reports.append(report)
        _progress(len(reports), len(seeds), sum(not r.ok for r in reports))
    bad = [report for report in reports if not report.ok]
    _summary(reports, time.monotonic() - begin)
    for report in bad[:_SHOWN]:
        seed = report.plan.seed
        print(f"\nseed {seed}:")  # noqa: T201 - this is what the command is for
        for violation in report.violations[:5]:
            print(f"  {violation}")  # noqa: T201
        print(f"  again: make simulate SEEDS={seed}")  # noqa: T201
    if len(seeds) == 1 and bad:
        print()  # noqa: T201
        return _tell(seeds[0], mutant, None)
    return 1 if bad else 0


def _results(work: list[tuple[int, str | None]], jobs: int) -> Iterator[Report]:
    if jobs == 1:
        yield from map(_run, work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(_run, work, chunksize=4)


def _tell(seed: int, mutant: str | None, user: str | None) -> int:
    report = run(seed, mutant, trace=True)
    faults = ", ".join(f"{fault.kind} at {fault.at:g} s" for fault in report.plan.faults)
    print(f"seed {seed}: {faults or 'no faults'}")  # noqa: T201
    print(report.story(user))  # noqa: T201
    return 0 if report.ok else 1


def _progress(done: int, of: int, bad: int) -> None:
    if not sys.stderr.isatty() and done % 50 and done != of:
        return
    filled = _BAR * done // of
    end = "\r" if sys.stderr.isatty() and done < of else "\n"
    bar = "#" * filled + "." * (_BAR - filled)
    print(f"[{bar}] {done}/{of} schedules, {bad} with violations", end=end, file=sys.stderr, flush=True)  # noqa: T201


def _summary(reports: list[Report], seconds: float) -> None:
    hours = sum(report.seconds for report in reports) / 3600
    rules = Counter(violation.rule for report in reports for violation in report.violations)
    done = [
        f"{sum(getattr(report, name) for report in reports):,} {name}" for name in ("requests", "transitions", "frames")
    ]
    lines = (
        f"{len(reports)} schedules, {hours:.1f} virtual hours in {seconds:.0f} s: {', '.join(done)}",
        "faults: " + ", ".join(f"{count} {kind}" for kind, count in sorted(faults_of(reports).items())),
        "violations: " + (", ".join(f"{count} of {rule}" for rule, count in sorted(rules.items())) or "none"),
    )
    print("\n".join(lines))  # noqa: T201
