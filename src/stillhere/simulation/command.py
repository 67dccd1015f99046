"""The command: many seeds, side by side, and what they found."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FrameType
from typing import TypeVar

from stillhere.simulation.mutants import COVERED, MUTANTS, mutated
from stillhere.simulation.report import Report, Total, Violation
from stillhere.simulation.schedule import Plan
from stillhere.simulation.world import simulate

_BAR = 30
_SHOWN = 10
"""Failing seeds that are told in full."""

Job = TypeVar("Job")
Found = TypeVar("Found")


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
    """Run it; returns the exit status: 1 if a promise was broken, or if a mutant was not noticed."""
    parser = argparse.ArgumentParser(prog="python -m stillhere.simulation", description=__doc__)
    parser.add_argument("seeds", nargs="?", default="0-299", help="17, 0-299 or 1,5,20-30 (0-299 if absent)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes side by side")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="break a rule, and see whether it is noticed")
    parser.add_argument("--mutants", action="store_true", help="break every rule, and see which seed notices it first")
    parser.add_argument("--trace", type=int, metavar="SEED", help="tell the whole story of one seed")
    parser.add_argument("--user", help="with --trace: only what concerns this user")
    options = parser.parse_args(arguments)
    if options.trace is not None:
        return _tell(options.trace, options.mutant, options.user)
    try:
        seeds = seeds_of(options.seeds)
    except ValueError as error:
        parser.error(str(error))
    jobs = max(1, options.jobs)
    if options.mutants:
        return _table(seeds, jobs, [options.mutant] if options.mutant else list(MUTANTS))
    return _many(seeds, jobs, options.mutant)


def run(seed: int, mutant: str | None = None, *, trace: bool = False, hasty: bool = False) -> Report:
    """One seed, with a rule broken if a mutant is named; a hasty run stops at the first violation."""
    with mutated(mutant):
        return simulate(seed, trace=trace, hasty=hasty)


def first_to_notice(mutant: str, seeds: Iterable[int]) -> Report | None:
    """The report of the first seed that notices a mutant and without it finds nothing; None if there is none."""
    for seed in seeds:
        report = run(seed, mutant, hasty=True)
        if not report.ok and run(seed, hasty=True).ok:
            return report
    return None


def _run(job: tuple[int, str | None]) -> Report:
    try:
        return run(*job)
    except Exception as error:  # the other seeds go on
        at = traceback.extract_tb(error.__traceback__)[-1]
        what = f"the simulation itself failed at {os.path.basename(at.filename)}:{at.lineno}: {error!r}"
        return Report(Plan.of(job[0]), violations=[Violation(0.0, "failure", what)])


def _notice(job: tuple[str, Sequence[int]]) -> tuple[str, Report | None]:
    return job[0], first_to_notice(*job)


def _many(seeds: list[int], jobs: int, mutant: str | None) -> int:
    begin = time.monotonic()
    total, interrupted = Total(), False
    former = signal.signal(signal.SIGTERM, _interrupt)
    try:
        for report in _side_by_side(_run, [(seed, mutant) for seed in seeds], jobs, 4):
            total.add(report)
            _progress(total.schedules, len(seeds), f"schedules, {len(total.bad)} with violations")
    except KeyboardInterrupt:
        interrupted = True
    finally:
        signal.signal(signal.SIGTERM, former)
    bad = total.bad
    if interrupted:
        print(f"interrupted after {total.schedules} of {len(seeds)} schedules")  # noqa: T201
    print(total.told(time.monotonic() - begin))  # noqa: T201 - this is what the command is for
    for report in bad[:_SHOWN]:
        seed = report.plan.seed
        print(f"\nseed {seed}:")  # noqa: T201 - this is what the command is for
        for violation in report.violations[:5]:
            print(f"  {violation}")  # noqa: T201
        print(f"  again: make simulate SEEDS={seed}")  # noqa: T201
    if len(bad) > _SHOWN:
        print(f"\nand {', '.join(str(report.plan.seed) for report in bad[_SHOWN:])}")  # noqa: T201
    if interrupted:
        return 130
    if len(seeds) == 1 and bad:
        print()  # noqa: T201
        return _tell(seeds[0], mutant, None)
    return 1 if bad else 0


def _table(seeds: list[int], jobs: int, mutants: Sequence[str]) -> int:
    """Print which seed notices which mutant first, and by which rule."""
    found: dict[str, Report | None] = {}
    for mutant, report in _side_by_side(_notice, [(mutant, seeds) for mutant in mutants], jobs, 1):
        found[mutant] = report
        _progress(len(found), len(mutants), f"mutants, {sum(r is None for r in found.values())} not noticed")
    print(f"{'mutant':<30} {'first seed':>10}  noticed by")  # noqa: T201
    for mutant, report in found.items():
        if report is None:
            why = f"covered: see {COVERED[mutant]!r}" if mutant in COVERED else "nobody"
            print(f"{mutant:<30} {'-':>10}  {why}")  # noqa: T201
        else:
            first = report.violations[0]
            print(f"{mutant:<30} {report.plan.seed:>10}  {first.rule}: {first.what}")  # noqa: T201
    return 1 if any(report is None and mutant not in COVERED for mutant, report in found.items()) else 0


def _side_by_side(do: Callable[[Job], Found], work: Sequence[Job], jobs: int, at_a_time: int) -> Iterator[Found]:
    jobs = min(jobs, len(work))
    if jobs == 1:
        yield from map(do, work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, _leave_interrupts) as pool:
        yield from pool.imap(do, work, chunksize=at_a_time)


def _leave_interrupts() -> None:
    """In a worker: what is typed at the terminal is for the process that tells the report."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell(seed: int, mutant: str | None, user: str | None) -> int:
    report = run(seed, mutant, trace=True)
    faults = ", ".join(f"{fault.kind} at {fault.at:g} s" for fault in report.plan.faults)
    print(f"seed {seed}: {faults or 'no faults'}")  # noqa: T201
    print(report.story(user))  # noqa: T201
    return 0 if report.ok else 1


def _progress(done: int, of: int, what: str) -> None:
    if not sys.stderr.isatty() and done % 50 and done != of:
        return
    filled = _BAR * done // of
    end = "\r" if sys.stderr.isatty() and done < of else "\n"
    bar = "#" * filled + "." * (_BAR - filled)
    print(f"[{bar}] {done}/{of} {what}", end=end, file=sys.stderr, flush=True)  # noqa: T201
