"""What is measured of the shared store."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from bench.cluster.server import RedisServer
from bench.proc import cpu_seconds
from bench.stand import Failed, split_cpus

USERS_KEY = "{stillhere:0}:users"
LOG_KEY = "{stillhere:0}:log"

Figures = dict[str, float]


class Plan(msgspec.Struct, frozen=True):
    """How much."""

    users: int = 50_000
    """Of the crowd that is lost and told again."""
    events: int = 20_000
    """Per batch size; of batches of one, a quarter."""
    batches: tuple[int, ...] = (1, 10, 50, 200, 500)
    rate: int = 1000
    """Transitions per second between two nodes."""
    seconds: float = 10.0
    followers: int = 5
    """Nodes that follow the log beside the one that writes."""


QUICK = Plan(users=5000, events=4000, batches=(1, 50, 500), seconds=3.0, followers=2)


class Process:
    """A node of the bench, ended with the measurement."""

    def __init__(self, url: str, name: str) -> None:
        """Start it on the load's CPU and open its store."""
        ours = os.sched_getaffinity(0)
        os.sched_setaffinity(0, split_cpus()[1])
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.cluster.worker", url, name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        finally:
            os.sched_setaffinity(0, ours)
        self.do("start")

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def do(self, order: str, **arguments: object) -> dict[str, Any]:
        """Give an order and wait for its end.

        Raises:
            Failed: it went wrong.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"order": order, **arguments}).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"the node of the bench ended during {order!r}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(f"{order}: {answer['error']}")
        return answer

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def stand(*names: str) -> Iterator[tuple[RedisServer, list[Process]]]:
    """A fresh Redis and nodes on it."""
    with RedisServer(split_cpus()[0]) as server:
        nodes: list[Process] = []
        try:
            nodes.extend(Process(server.url, name) for name in names)
            yield server, nodes
        finally:
            for node in nodes:
                node.end()


def costs(plan: Plan) -> Figures:
    """Redis CPU per transition and per ``INCR``, in batches; each in turn on the same server."""
    figures: Figures = {}
    with stand("n1") as (server, (node,)):
        for batch in plan.batches:
            events = plan.events // 4 if batch == 1 else plan.events
            before = server.cpu()
            bare = node.do("increments", events=events, batch=batch)
            between = server.cpu()
            ours = node.do("puts", prefix=f"b{batch}-", users=events // 2, batch=batch)
            after = server.cpu()
            if ours["transitions"] != events // 2 * 2:
                raise Failed(f"{ours['transitions']} transitions in place of {events // 2 * 2}")
            figures[f"incr_us_{batch}"] = (between - before) / events * 1e6
            figures[f"transition_us_{batch}"] = (after - between) / ours["transitions"] * 1e6
            figures[f"incr_rate_{batch}"] = events / bare["seconds"]
            figures[f"transition_rate_{batch}"] = ours["transitions"] / ours["seconds"]
    return figures


def turns(plan: Plan) -> Figures:
    """Requests for what one turn of the loop changed: the least of ten, since sweeps and beats come in between."""
    figures: Figures = {}
    with stand("n1") as (_, (node,)):
        for users in (1, 100, 500):
            told = [node.do("turn", prefix=f"t{users}-{i}-", users=users)["requests"] for i in range(10)]
            figures[f"requests_per_turn_{users}"] = min(told)
    return figures


def latency(plan: Plan) -> Figures:
    """From a change in the roster of one node to its arrival from the log on another one."""
    with stand("n1", "n2") as (server, (one, two)):
        two.do("follow")
        one.do("flips", prefix="warm", rate=plan.rate, seconds=1.0)
        two.do("arrivals")
        before = server.cpu()
        made: dict[str, float] = one.do("flips", prefix="f", rate=plan.rate, seconds=plan.seconds)["made"]
        used = server.cpu() - before
        time.sleep(0.5)
        arrived: dict[str, float] = two.do("arrivals")["arrived"]
    waits = sorted(arrived[key] - at for key, at in made.items() if key in arrived)
    if len(waits) < 0.99 * len(made):
        raise Failed(f"only {len(waits)} of {len(made)} transitions arrived")
    cuts = statistics.quantiles(waits, n=100)
    return {
        "latency_p50_ms": cuts[49] * 1000,
        "latency_p99_ms": cuts[98] * 1000,
        "latency_rate": len(made) / plan.seconds,
        "latency_redis_share": used / plan.seconds,
    }


def followers(plan: Plan) -> Figures:
    """What a node costs that only follows: Redis, network and its own CPU, per transition and while nothing happens."""
    crowd = [f"n{number}" for number in range(1, plan.followers + 2)]
    told: list[tuple[float, float, float]] = []
    quiet: list[tuple[float, float]] = []
    own = 0.0
    for names in (crowd[:1], crowd):
        with stand(*names) as (server, nodes):
            quiet.append(_quiet(server))
            before = server.cpu(), server.sent(), cpu_seconds([nodes[-1].pid])
            made = nodes[0].do("flips", prefix="w", rate=plan.rate, seconds=plan.seconds)["made"]
            time.sleep(0.5)
            after = server.cpu(), server.sent(), cpu_seconds([nodes[-1].pid])
            told.append((after[0] - before[0], after[1] - before[1], len(made)))
            own = (after[2] - before[2]) / len(made)
    (cpu_1, sent_1, made_1), (cpu_n, sent_n, made_n) = told
    others = plan.followers
    return {
        "log_us": (cpu_n / made_n - cpu_1 / made_1) / others * 1e6,
        "log_bytes": (sent_n / made_n - sent_1 / made_1) / others,
        "follow_us": own * 1e6,
        "idle_ms": (quiet[1][0] - quiet[0][0]) / others * 1000,
        # a beat's answer names all nodes, so that what one node is sent grows with their number
        "pair_bytes": (quiet[1][1] / (others + 1) - quiet[0][1]) / others,
    }


def _quiet(server: RedisServer, seconds: float = 10.0) -> tuple[float, float]:
    """Redis CPU seconds and bytes sent, per second, while the nodes only sweep, wait for news, and beat twice."""
    time.sleep(1.0)
    before, begin = (server.cpu(), server.sent()), time.monotonic()
    time.sleep(seconds)
    after, span = (server.cpu(), server.sent()), time.monotonic() - begin
    return (after[0] - before[0]) / span, (after[1] - before[1]) / span


def history(plan: Plan) -> Figures:
    """What a user who has gone still takes, and each entry of a timeline."""
    users, times = 1000, 20
    with stand("n1") as (server, (node,)):

        def grown() -> float:
            log = server.client.memory_usage(LOG_KEY, samples=0) or 0
            return float(server.memory() - int(log))

        empty = grown()
        node.do("puts", prefix="h", users=users, batch=50)
        once = grown()
        for _ in range(times):
            node.do("puts", prefix="h", users=users, batch=50)
        often = grown()
    return {
        "gone_bytes": (once - empty) / users,
        "timeline_bytes": (often - once) / (users * times * 4),  # two transitions, and what each follows from
    }


def loss(plan: Plan) -> Figures:
    """``FLUSHALL`` under a crowd: how long until the store has everybody again; and what a user takes in memory."""
    with stand("n1") as (server, (node,)):
        empty = server.memory()
        told = node.do("crowd", prefix="u", users=plan.users)
        if told["changed"] or server.client.hlen(USERS_KEY) != plan.users:
            raise Failed(f"the store has {server.client.hlen(USERS_KEY)} of {plan.users} users")
        full = server.memory()
        log = int(server.client.memory_usage(LOG_KEY, samples=0) or 0)
        figures = {
            "user_bytes": (full - empty - log) / plan.users,
            "log_entry_bytes": log / max(1, server.client.xlen(LOG_KEY)),
            "crowd_s": told["seconds"],
        }
        used = server.cpu()
        begin = time.perf_counter()
        server.client.flushall()
        figures |= _refill(server, plan.users, begin)
        figures["refill_us"] = (server.cpu() - used) / plan.users * 1e6
    return figures


def _refill(server: RedisServer, users: int, begin: float) -> Figures:
    first = 0.0
    end = begin + 120
    while time.perf_counter() < end:
        there = server.client.hlen(USERS_KEY)
        now = time.perf_counter()
        if there and not first:
            first = now
        if there >= users:
            return {"noticed_s": first - begin, "refill_s": now - first}
        time.sleep(0.01)
    raise Failed(f"two minutes after FLUSHALL the store has {server.client.hlen(USERS_KEY)} of {users} users")


PHASES: dict[str, Callable[[Plan], Figures]] = {
    "costs": costs,
    "turns": turns,
    "latency": latency,
    "followers": followers,
    "history": history,
    "loss": loss,
}


def bounded(phase: Callable[[Plan], Figures], plan: Plan, seconds: float = 300.0) -> Figures:
    """Run a phase, but not for longer than this.

    Raises:
        Failed: also when the time is over; what the phase started ends with the bench then.
    """
    found: list[Figures | BaseException] = []

    def work() -> None:
        try:
            found.append(phase(plan))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        raise Failed(f"no end after {seconds:g} s")
    if isinstance(found[0], BaseException):
        raise Failed(str(found[0])) from found[0]
    return found[0]
