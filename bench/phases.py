"""What is measured: one function per phase, each with a server of its own.

Every phase checks that the server did the whole job, and raises :class:`~bench.stand.Failed` if it did not: a figure
of half the work is worth nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from bench.client import Client
from bench.crowds import friends, reconnect
from bench.hour import hour
from bench.latency import latency
from bench.plan import Figures, Plan, names
from bench.stand import Failed, Stand

QUICK_PHASES = ("idle", "tracked", "room", "storm")

GAP = 0.05
"""Seconds between isolated changes, at least: longer than anybody waits to fold."""

PATIENCE = 5.0
"""Seconds within which every watcher must be told of a change."""

BURST_USERS = 200
BURST_IN_FLIGHT = 20

_WARM = 30
"""Connections before the first look, so that what a server loads late is not counted."""


async def _opening(stand: Stand, plan: Plan, room: str | None) -> tuple[float, float]:
    """KiB and CPU µs per connection."""
    await stand.crowd([f"warm-{i}" for i in range(_WARM)], room)
    await stand.quiet()
    memory, cpu = stand.memory(), stand.cpu()
    await stand.crowd(names(plan.connections), room)
    await stand.quiet()
    cpu = stand.cpu() - cpu
    await asyncio.sleep(plan.settle)
    return (stand.memory() - memory) / 1024 / plan.connections, cpu / plan.connections * 1e6


async def idle(stand: Stand, plan: Plan) -> Figures:
    """Connections that are welcomed and then do nothing."""
    kib, us = await _opening(stand, plan, None)
    return {"bare_kib": kib, "connect_us": us}


async def tracked(stand: Stand, plan: Plan) -> Figures:
    """The same, each in a room of its own."""
    kib, us = await _opening(stand, plan, "room of {}")
    return {"tracked_kib": kib, "connect_join_us": us}


async def _changes(stand: Stand, actor: Client, plan: Plan) -> float:
    """CPU µs per watcher of changes that are alone in time: each waits until all have been told of the one before."""
    await stand.quiet(1.0)
    requests = [actor.changing("active" if i % 2 else "busy") for i in range(plan.changes)]
    loop, tally = asyncio.get_running_loop(), stand.tally
    frames, cpu = tally.frames, stand.cpu()
    for request in requests:
        begin = loop.time()
        actor.say(request)
        frames += plan.watchers + actor.answers  # the actor is told that it was understood, too
        await asyncio.sleep(GAP)
        while tally.frames < frames:
            if loop.time() - begin > PATIENCE:
                raise Failed(f"{frames - tally.frames} of {plan.watchers} watchers were not told in {PATIENCE:g} s")
            await asyncio.sleep(GAP / 10)
    await stand.quiet()
    cpu = stand.cpu() - cpu
    if tally.frames != frames:
        raise Failed(f"{tally.frames - frames} frames more than {plan.changes} changes ask for")
    return cpu / (plan.changes * plan.watchers) * 1e6


async def room(stand: Stand, plan: Plan) -> Figures:
    """One member of a room changes; all are told."""
    members = await stand.crowd(names(plan.watchers), "hall")
    return {"room_us": await _changes(stand, members[0], plan)}


async def watch(stand: Stand, plan: Plan) -> Figures:
    """One user changes, whom all watch."""
    watchers = await stand.crowd(names(plan.watchers))
    for watcher in watchers:
        await watcher.watch("star")
    [star] = await stand.crowd(["star"])
    return {"watch_us": await _changes(stand, star, plan)}


async def burst(stand: Stand, plan: Plan) -> Figures:
    """Many members of a room change at about the same time."""
    members = await stand.crowd(names(plan.watchers), "hall")
    await stand.quiet(1.0)
    witness = members[-1]
    witness.kept = []
    frames, cpu = stand.tally.frames, stand.cpu()
    changing = members[:BURST_USERS]
    for sweep in range(plan.sweeps):
        waiting = iter(changing)
        availability = "active" if sweep % 2 else "busy"

        async def work(waiting: Iterator[Client] = waiting, availability: str = availability) -> None:
            for member in waiting:
                await member.change(availability)

        async with asyncio.TaskGroup() as group:
            for _ in range(BURST_IN_FLIGHT):
                group.create_task(work())
    await stand.quiet()
    cpu = stand.cpu() - cpu
    seen = witness.known()
    if not seen.issuperset(member.user for member in changing):
        raise Failed(f"the last member was told of {len(seen)} of {len(changing)} that changed")
    changes = plan.sweeps * len(changing)
    return {
        "burst_us": cpu / (changes * plan.watchers) * 1e6,
        "burst_frames": stand.tally.frames - frames - changes * witness.answers,
    }


async def storm(stand: Stand, plan: Plan) -> Figures:
    """All join one room at once."""
    members = await stand.crowd(names(plan.watchers))
    await stand.quiet(1.0)
    witnesses = members[0], members[-1]
    for witness in witnesses:
        witness.kept = []
    frames, cpu = stand.tally.frames, stand.cpu()
    for member in members:
        member.say(member.joining("hall"))
    await stand.quiet(1.0)
    cpu = stand.cpu() - cpu
    for witness in witnesses:
        there = witness.known()
        if len(there) != len(members):
            raise Failed(f"{witness.user} knows of {len(there)} members of {len(members)}")
    return {"storm_s": cpu, "storm_frames": stand.tally.frames - frames}


PHASES: dict[str, Callable[[Stand, Plan], Awaitable[Figures]]] = {
    "idle": idle,
    "tracked": tracked,
    "room": room,
    "watch": watch,
    "burst": burst,
    "storm": storm,
    "friends": friends,
    "reconnect": reconnect,
    "latency": latency,
    "hour": hour,
}

ALSO = dict.fromkeys(("ws", "stillhere", "stillhere-sqlite", "no-windows"), ("friends", "reconnect", "latency", "hour"))
"""Phases beside those that each peer has: they need `watch`, and a client that knows this project's messages."""
