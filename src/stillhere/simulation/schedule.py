"""What happens in a simulation: a plan, drawn from a seed."""

from __future__ import annotations

import random
from enum import StrEnum

import msgspec


class FaultKind(StrEnum):
    """What goes wrong."""

    CRASH = "crash"
    """A node's process dies and comes back under the same name."""
    PAUSE = "pause"
    """A node stands still."""
    CUT = "cut"
    """A node cannot reach the store, for less than its users need to be lost."""
    LONG_CUT = "long cut"
    """The same, for longer."""
    STARVE = "starve"
    """The connection of a node's log reader jams: nothing new comes, and no error either."""
    OUTAGE = "outage"
    """The store's process is gone for a while; it comes back as it was, as the same run (a frozen or moved machine)."""
    HANG = "hang"
    """The store does not answer for a while."""
    SLOW = "slow"
    """The store answers late."""
    RESTART = "restart"
    """Another run of the store, with its data."""
    LOSS = "loss"
    """Another run of the store, without any data."""
    FAILOVER = "failover"
    """Another run of the store, without the last writes."""
    FLUSH = "flush"
    """All data is deleted, the process stays."""
    JUMP_AHEAD = "jump ahead"
    """The store's clock jumps."""
    JUMP_BACK = "jump back"
    STORM = "storm"
    """All connections of a node break at once."""
    DEPLOY = "deploy"
    """All nodes are drained and replaced, one after the other."""
    FLAKY = "flaky"
    """Half of what a node asks of the store is lost for some seconds, and half of the answers."""
    EVICTION = "eviction"
    """The record of somebody who is connected is deleted: an operator's hand, or a store that is short of memory."""


class Fault(msgspec.Struct, frozen=True):
    """One of them."""

    at: float
    """Seconds from the start."""
    kind: FaultKind
    node: int = 0
    """Which node, where one is meant."""
    seconds: float = 0.0
    """How long it lasts; of a failover, how much is lost; of a jump, how far it goes."""
    down: float = 0.0
    """How long the store is away meanwhile, where its process changes."""

    @property
    def over(self) -> float:
        """When it is over, in seconds from the start."""
        if self.kind in (FaultKind.JUMP_AHEAD, FaultKind.JUMP_BACK, FaultKind.FAILOVER):
            return self.at + self.down
        return self.at + self.seconds + self.down


NODES = 3

NEW_RUNS = frozenset((FaultKind.RESTART, FaultKind.LOSS, FaultKind.FAILOVER))
"""Faults after which another run of the store is there, and every node has to tell it what it carries."""


class Plan(msgspec.Struct, frozen=True):
    """Everything about a simulation that is decided before it begins."""

    seed: int
    users: int = 6
    profile: str = "steady"
    partitions: int = 1
    retention: int = 20_000
    """Entries that the log keeps."""
    loss: float = 0.0
    """Share of the requests to the store that are lost; as many answers are."""
    pace: float = 6.0
    """Mean seconds between two things that a user does."""
    slow_admission: bool = False
    """The application takes seconds to admit some of the connections: upgrades are in flight."""
    skew: float = 0.0
    """The nodes' wall clocks are wrong by up to so many seconds."""
    hiding: bool = False
    """Some users make themselves invisible."""
    chaos: float = 90.0
    """Seconds in which users act and faults begin."""
    quiet: float = 120.0
    """Seconds without either, after the last fault is over."""
    faults: tuple[Fault, ...] = ()

    @property
    def quiet_at(self) -> float:
        """When the quiet begins, in seconds from the start: after the last fault is over."""
        return max((self.chaos, *(fault.over + 1.0 for fault in self.faults)))

    @classmethod
    def of(cls, seed: int) -> Plan:
        """Draw a plan."""
        rng = random.Random(f"plan {seed}")
        chaos = 90.0
        faults = [_fault(rng, chaos) for _ in range(rng.randrange(7))]
        # what the nodes have to do when the store comes back as another one is done over a bad network
        for fault in tuple(faults):
            if fault.kind in NEW_RUNS and rng.random() < 0.35:
                back = fault.at + fault.down - rng.uniform(0.0, 1.0)
                faults.append(Fault(round(back, 2), FaultKind.FLAKY, rng.randrange(NODES), round(rng.uniform(2, 8), 2)))
            if fault.kind in NEW_RUNS and rng.random() < 0.35:  # a full hand of news for a store that is gone
                faults.append(Fault(round(fault.at - rng.uniform(0.0, 0.3), 2), FaultKind.STORM, rng.randrange(NODES)))
        return cls(
            seed,
            users=rng.choice((3, 5, 7)),
            profile=rng.choice(("steady", "steady", "fast")),
            partitions=rng.choice((1, 1, 2)),
            retention=rng.choice((5, 20, 20_000)),
            loss=rng.choice((0.0, 0.0, 0.01, 0.05)),
            pace=rng.choice((20.0, 8.0, 3.0)),
            slow_admission=rng.random() < 0.25,
            skew=rng.choice((0.0, 0.0, 0.5, 1200.0)),
            hiding=rng.random() < 0.2,
            chaos=chaos,
            faults=tuple(sorted(faults, key=lambda fault: fault.at)),
        )


def _fault(rng: random.Random, chaos: float) -> Fault:
    kind = rng.choice(tuple(FaultKind))
    at = round(rng.uniform(6.0, chaos - 10.0), 2)
    node, x = rng.randrange(NODES), rng.random()
    seconds, down = 0.0, 0.0
    match kind:
        case FaultKind.CRASH:
            seconds = 1 + x * 30
        case FaultKind.PAUSE:
            seconds = 2 + x * 56
        case FaultKind.CUT:
            seconds = 2 + x * 28
        case FaultKind.LONG_CUT:
            seconds = 50 + x * 20
        case FaultKind.OUTAGE | FaultKind.HANG:
            seconds = 1 + x * 58
        case FaultKind.SLOW:
            seconds = 2 + x * 15
        case FaultKind.RESTART | FaultKind.LOSS:
            down = 0.2 + x * 20
        case FaultKind.FAILOVER:
            seconds, down = rng.uniform(0.05, 2.0), 0.2 + x * 20
        case FaultKind.JUMP_AHEAD | FaultKind.JUMP_BACK:
            seconds = x * 7200
        case FaultKind.DEPLOY:
            seconds = 24.0
        case FaultKind.FLAKY:
            seconds = 2 + x * 18
        case _:
            pass
    return Fault(at, kind, node, round(seconds, 2), round(down, 2))
