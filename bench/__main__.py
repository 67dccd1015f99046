"""``python -m bench``: measure Stillhere beside its peers."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import uvloop

from bench.adapters import PEERS, USUAL
from bench.figures import medians, tables
from bench.machine import describe
from bench.phases import PHASES, QUICK_PHASES
from bench.plan import QUICK, Figures, Plan
from bench.report import write_report
from bench.running import RESULTS, able, measure, need_linux, prepared, say
from bench.stand import Failed, raise_file_limit

_SPARE_FILES = 200
"""Open files beside the connections."""

Measured = dict[str, dict[str, list[float]]]


def broken(figures: Figures) -> list[str]:
    """Promises of Stillhere that a measurement shows to be broken: somebody was shown as gone for nothing."""
    return [f"{key} is {value:.0f}, and not 0" for key, value in figures.items() if key.endswith("_gone") and value]


async def rounds(peers: Sequence[str], phases: Sequence[str], plan: Plan) -> tuple[Measured, list[str]]:
    """All of it: the peers take turns within each phase, so that all see the same machine."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # so that no server is left behind
    measured: Measured = {PEERS[name].title: {} for name in peers}
    faults: list[str] = []
    begin = time.monotonic()
    jobs = [(phase, name) for phase in phases for name in peers if able(name, phase)]
    done = 0
    for turn in range(plan.rounds):
        for phase in phases:
            for name in peers:
                if (phase, name) not in jobs:
                    continue
                peer = PEERS[name]
                done += 1
                where = f"[{time.monotonic() - begin:5.0f} s] {done}/{len(jobs) * plan.rounds} {phase:<9} {name:<17}"
                try:
                    figures = await measure(peer, phase, plan)
                except Failed as fault:
                    faults.append(f"round {turn + 1}, {phase}, {name}: {fault}")
                    say(f"{where} FAILED: {fault}")
                    continue
                say(f"{where} " + "  ".join(f"{key}={value:.4g}" for key, value in figures.items()))
                if name.startswith("stillhere"):
                    faults += [f"round {turn + 1}, {phase}, {name}: {text}" for text in broken(figures)]
                for key, value in figures.items():
                    measured[peer.title].setdefault(key, []).append(value)
    return measured, faults


def save(results: Path, machine: Mapping[str, object], plan: Plan, measured: Measured, faults: Sequence[str]) -> Path:
    """Write everything down, the single values too."""
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    document = {
        "kind": "bench",
        "machine": machine,
        "plan": msgspec.to_builtins(plan),
        "medians": medians(measured),
        "values": measured,
        "faults": faults,
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return path


def chosen(text: str | None, known: Mapping[str, object], usual: Sequence[str], what: str) -> list[str]:
    """The names in ``text``, in the order in which they are known; ``usual`` where there is none.

    Raises:
        SystemExit: one of them is not known.
    """
    if not text:
        return list(usual)
    wanted = text.replace(",", " ").split()
    strange = [name for name in wanted if name not in known]
    if strange:
        raise SystemExit(f"{what} {strange[0]!r} is not known; there are: {', '.join(known)}")
    return [name for name in known if name in wanted]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; PEERS, PHASES and QUICK may come from the environment, as ``make`` passes them."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure memory and CPU per connection and per delivery, Stillhere beside its peers. Progress goes "
        "to stderr, a Markdown table to stdout, everything to bench/results/. Linux only.",
        epilog="Three quarters of an hour with the usual peers; with --quick minutes. docs/performance.md says what "
        "each figure means.",
    )
    environ = os.environ
    parser.add_argument(
        "--quick", action="store_true", default=bool(environ.get("QUICK")), help="smaller, fewer phases, one round"
    )
    parser.add_argument("--peers", default=environ.get("PEERS"), help=f"some of: {', '.join(PEERS)}")
    parser.add_argument("--phases", default=environ.get("PHASES"), help=f"some of: {', '.join(PHASES)}")
    parser.add_argument("--rounds", type=int, help="how often (default 3; with --quick 1)")
    parser.add_argument("--connections", type=int, help="idle connections (default 5000; with --quick 1500)")
    parser.add_argument("--watchers", type=int, help="watchers of a change (default 1000; with --quick 500)")
    parser.add_argument("--friends", type=int, help="users who watch each other (default 10000; with --quick 1500)")
    parser.add_argument(
        "--report", nargs="+", metavar="FILE", help="measure nothing: write docs/benchmarks.md from these results"
    )
    return parser.parse_args(argv)


def plan_of(given: argparse.Namespace, files: int) -> Plan:
    """How much, as asked for.

    Raises:
        SystemExit: the system does not allow so many connections, or a number makes no sense.
    """
    plan = QUICK if given.quick else Plan()
    asked = {
        key: value
        for key in ("rounds", "connections", "watchers", "friends")
        if (value := getattr(given, key)) is not None
    }
    for key, value in asked.items():
        if value < 1:
            raise SystemExit(f"--{key} is {value}; it must be at least 1")
    plan = msgspec.structs.replace(plan, **asked)
    if plan.friends <= plan.watched:
        raise SystemExit(f"--friends is {plan.friends}; each watches {plan.watched}, so there must be more")
    most = max(plan.connections, plan.watchers, plan.friends)
    if most + _SPARE_FILES > files:
        raise SystemExit(
            f"{most} connections need {most + _SPARE_FILES} open files, and the hard limit is {files} (ulimit -Hn); "
            "raise it, or pass --connections"
        )
    return plan


def main() -> int:
    """Run."""
    given = arguments()
    if given.report:
        return write_report([Path(name) for name in given.report])
    need_linux()
    peers = chosen(given.peers, PEERS, USUAL, "the peer")
    phases = chosen(given.phases, PHASES, QUICK_PHASES if given.quick else list(PHASES), "the phase")
    plan = plan_of(given, raise_file_limit())
    peers, missing = prepared(peers)
    machine = describe()
    say(f"{machine['cpu']}, {machine['cpus']} CPUs, load {machine['load']}, Python {machine['python']}")
    if machine["cpus"] == 1:
        say("there is one CPU only: the load shares it with the server, and figures are higher than they would be")
    try:
        measured, faults = uvloop.run(rounds(peers, phases, plan))
        faults = missing + faults
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise SystemExit("interrupted: the server under measurement was ended, and nothing is kept") from None
    path = save(RESULTS, machine, plan, measured, faults)
    print(tables(measured))
    say(f"all values: {path}")
    for text in faults:
        say(f"FAILED: {text}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
