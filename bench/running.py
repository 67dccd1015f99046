"""One phase against one peer, from the start of its server to its end."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sys
from collections.abc import Sequence

import msgspec

from bench.adapters import HERE, PEERS, Peer
from bench.phases import ALSO, PHASES
from bench.plan import Figures, Plan
from bench.stand import Failed, Stand, free_port, split_cpus, work_dir

RESULTS = HERE / "results"
"""Where runs are written down."""

_PHASE_TIMEOUT = 240.0


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def need_linux() -> None:
    """Refuse to measure where there is no ``/proc``.

    Raises:
        SystemExit: in a sentence.
    """
    if sys.platform != "linux":
        raise SystemExit(f"the bench reads /proc, which {sys.platform} does not have; run it on Linux")


def able(name: str, phase: str) -> bool:
    """Whether a peer can do a phase."""
    return phase in PEERS[name].phases or phase in ALSO.get(name, ())


def within(peer: Peer, plan: Plan) -> Plan:
    """The plan, with as many watchers as a peer can have."""
    return msgspec.structs.replace(plan, watchers=min(plan.watchers, peer.most_watchers or plan.watchers))


async def measure(peer: Peer, phase: str, plan: Plan) -> Figures:
    """One phase against a fresh server.

    Raises:
        Failed: it did not do the work.
    """
    servers, load = split_cpus()
    os.sched_setaffinity(0, load | servers)
    port, work = free_port(), work_dir()
    gc.collect()
    gc.disable()  # a pause of the generator would look like a slow server
    try:
        async with asyncio.timeout(_PHASE_TIMEOUT):
            async with Stand(peer.command(port, work), peer.env, port, servers, peer.dialect) as stand:
                os.sched_setaffinity(0, load)
                return await PHASES[phase](stand, within(peer, plan))
    except TimeoutError:
        raise Failed(f"no end after {_PHASE_TIMEOUT:g} s") from None
    except ExceptionGroup as group:
        raise Failed(str(group.exceptions[0])) from group
    except OSError as error:
        raise Failed(str(error)) from error
    finally:
        gc.enable()
        os.sched_setaffinity(0, load | servers)
        shutil.rmtree(work, ignore_errors=True)


def prepared(peers: Sequence[str]) -> tuple[list[str], list[str]]:
    """Install what peers need.

    Returns:
        Those that can be measured, and why the others cannot.

    Raises:
        SystemExit: none can.
    """
    ready, faults = [], []
    for name in peers:
        try:
            PEERS[name].prepare()
        except Failed as fault:
            faults.append(str(fault))
            say(f"{name} is left out: {fault}")
        else:
            ready.append(name)
    if not ready:
        raise SystemExit("none of the peers can be measured")
    return ready, faults
