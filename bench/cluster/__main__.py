"""``python -m bench.cluster``: measure the shared store beside a bare ``INCR`` loop on the same Redis."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from bench.cluster.phases import PHASES, QUICK, Plan, bounded
from bench.cluster.server import RedisServer
from bench.figures import cell
from bench.machine import describe
from bench.stand import Failed, split_cpus

RESULTS = Path(__file__).resolve().parents[1] / "results"
TITLES = {
    "requests_per_turn_1": "requests for 1 change in a turn of the loop",
    "requests_per_turn_100": "requests for 100 changes in a turn",
    "requests_per_turn_500": "requests for 500 changes in a turn",
    "latency_rate": "transitions per second between two nodes",
    "latency_p50_ms": "from node to node, ms, median",
    "latency_p99_ms": "from node to node, ms, 99th percentile",
    "latency_redis_share": "of one CPU that Redis used meanwhile",
    "log_bytes": "bytes sent per transition and node that follows",
    "log_us": "Redis CPU per transition and node that follows, µs",
    "follow_us": "CPU of such a node per transition, µs",
    "idle_ms": "Redis CPU per idle node and second, ms",
    "pair_bytes": "bytes to each node per second, for each node that there is",
    "user_bytes": "bytes per online user, the log aside",
    "gone_bytes": "bytes per user who went, with four entries of the timeline",
    "timeline_bytes": "bytes per further entry of a timeline",
    "log_entry_bytes": "bytes per entry of the log",
    "crowd_s": "s until all users were put",
    "noticed_s": "s from FLUSHALL until the first is put again",
    "refill_s": "s from there until the last is",
    "refill_us": "Redis CPU of that, µs per user",
}

Measured = dict[str, list[float]]


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def tables(measured: Mapping[str, Sequence[float]], plan: Plan) -> str:
    """Two Markdown tables: costs by the size of the batch, and the rest."""
    lines: list[str] = []
    if "incr_us_1" in measured:
        head = [f"{batch} a request" for batch in plan.batches]
        lines += ["| | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
        for key, title in (
            ("incr_us", "`INCR`, Redis CPU µs"),
            ("transition_us", "transition, Redis CPU µs"),
            ("incr_rate", "`INCR`s per second, one client"),
            ("transition_rate", "transitions per second, one node"),
        ):
            row = [cell(measured.get(f"{key}_{batch}", ())) for batch in plan.batches]
            lines.append(f"| {title} | " + " | ".join(row) + " |")
        lines.append("")
    rest = [(title, measured[key]) for key, title in TITLES.items() if key in measured]
    if rest:
        lines += ["| | |", "|---|---|", *(f"| {title} | {cell(values)} |" for title, values in rest)]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller, one round")
    parser.add_argument("--phases", default="", help=f"some of: {', '.join(PHASES)}")
    parser.add_argument("--rounds", type=int, default=0, help="how often (default 3; with --quick 1)")
    return parser.parse_args()


def main() -> int:
    """Run."""
    given = arguments()
    if sys.platform != "linux":
        raise SystemExit(f"the bench pins processes to CPUs as Linux does; {sys.platform} does not")
    plan = QUICK if given.quick else Plan()
    wanted = given.phases.replace(",", " ").split() or list(PHASES)
    strange = [name for name in wanted if name not in PHASES]
    if strange:
        raise SystemExit(f"the phase {strange[0]!r} is not known; there are: {', '.join(PHASES)}")
    try:
        with RedisServer(split_cpus()[0]) as server:
            machine = {**describe(), "redis": server.version()}
    except Failed as fault:
        raise SystemExit(str(fault)) from None
    say(f"{machine['cpu']}, {machine['cpus']} CPUs, load {machine['load']}, Redis {machine['redis']}")
    measured: Measured = {}
    faults: list[str] = []
    begin = time.monotonic()
    rounds = given.rounds or (1 if given.quick else 3)
    for turn in range(rounds):
        for name in wanted:
            where = f"[{time.monotonic() - begin:5.0f} s] round {turn + 1}/{rounds} {name:<10}"
            try:
                figures = bounded(PHASES[name], plan)
            except Failed as fault:
                faults.append(f"round {turn + 1}, {name}: {fault}")
                say(f"{where} FAILED: {fault}")
                continue
            say(f"{where} " + "  ".join(f"{key}={value:.4g}" for key, value in figures.items()))
            for key, value in figures.items():
                measured.setdefault(key, []).append(value)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"cluster-{time.strftime('%Y%m%d-%H%M%S')}.json"
    document = {
        "machine": machine,
        "plan": msgspec.to_builtins(plan),
        "medians": {key: statistics.median(values) for key, values in measured.items()},
        "values": measured,
        "faults": faults,
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    print(tables(measured, plan))
    say(f"all values: {path}")
    for text in faults:
        say(f"FAILED: {text}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
