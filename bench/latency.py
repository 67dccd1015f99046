"""The phase `latency`: how long a change takes to a thousand watchers, on a calm server and on a busy one."""

from __future__ import annotations

import asyncio
import time

from bench.client import Client, masked
from bench.plan import Figures, Plan, names
from bench.stand import Failed, Stand, in_turns
from bench.watching import Shown, arrivals, clock, on_time

STARS = 50
"""Users who are watched, and change in turns: each so seldom that two of its changes are never under way."""

RATE = 10.0
"""Changes per second of all stars together."""

BUSY = 0.8
"""Of one CPU, on a busy server."""

_SLACK = 0.04
_WINDOW = 1.0
"""Seconds over which the share is measured while the load is being set."""
_ATTEMPTS = 20
_MEMBERS, _ROOM = 400, 20
_TICK = 0.005


class Load:
    """A crowd in rooms of twenty who change all the time, so many changes a second, to keep a server busy."""

    def __init__(self, members: list[Client]) -> None:
        """Nothing yet.

        Args:
            members: in their rooms.
        """
        self.rate = 500.0
        self._members = members
        self._requests = [
            masked(b'{"type":"state","id":9000,"availability":"%s"}' % availability)
            for availability in (b"busy", b"active")
        ]

    async def run(self) -> None:
        """Until it is cancelled. What could not be sent in time is sent later, up to a second's worth of it."""
        owed, before, sent = 0.0, clock(), 0
        while True:
            await asyncio.sleep(_TICK)
            now = clock()
            owed = min(owed + (now - before) * self.rate, self.rate)
            before = now
            for _ in range(int(owed)):
                turn, at = divmod(sent, len(self._members))
                self._members[at].say(self._requests[turn % 2])
                sent += 1
            owed -= int(owed)


class Shares:
    """Which part of a CPU the server, and the generator, have used since."""

    def __init__(self, stand: Stand) -> None:
        """Begin now."""
        self._stand = stand
        self._began, self._server, self._own = clock(), stand.cpu(), time.process_time()

    def server(self) -> float:
        """Of the server and all that it started."""
        return (self._stand.cpu() - self._server) / (clock() - self._began)

    def generator(self) -> float:
        """Of the generator."""
        return (time.process_time() - self._own) / (clock() - self._began)


class Stars:
    """Those who are watched."""

    def __init__(self, actors: list[Client], watchers: list[Client]) -> None:
        """All are `active`.

        Args:
            actors: the stars.
            watchers: each watches them all.
        """
        self._actors = actors
        self._watchers = watchers
        self._changes = 0

    async def shine(self, seconds: float, seed: str) -> Shown:
        """Change for so many seconds, and wait until all watchers have been told of all."""
        shown = Shown()
        for watcher in self._watchers:
            watcher.kept = shown
        offsets = arrivals(RATE, seconds, seed)
        begin, first = clock() + 0.05, self._changes
        due = [begin + offset for offset in offsets]
        self._changes += len(due)

        def change(number: int) -> None:
            turn, at = divmod(first + number, len(self._actors))
            availability = b"active" if turn % 2 else b"busy"
            shown.expect(self._actors[at].user, due[number])
            self._actors[at].say(masked(b'{"type":"state","id":9000,"availability":"%s"}' % availability))

        await on_time(due, change)
        await shown.complete(len(due) * len(self._watchers))
        return shown


async def latency(stand: Stand, plan: Plan) -> Figures:
    """Changes at random times, each to all watchers; first alone, then beside a load that takes most of the CPU."""
    stars = [f"star-{n:02}" for n in range(STARS)]
    watchers = await stand.crowd(names(plan.watchers))
    listed = ",".join(f'"{star}"' for star in stars)
    await in_turns(watchers, lambda watcher: watcher.ask("watch", f'"users":[{listed}]'))
    sky = Stars(await stand.crowd(stars), watchers)
    await stand.quiet(1.0)
    shares = Shares(stand)
    calm = (await sky.shine(plan.latency_seconds, "calm")).figures("calm")
    calm_share = shares.server()

    members = await stand.crowd([f"member-{n:03}" for n in range(_MEMBERS)])

    async def join(at: int) -> None:
        await members[at].ask("join", f'"room":"room {at // _ROOM}"')

    await in_turns(range(_MEMBERS), join)
    await stand.quiet(1.0)
    load = Load(members)
    running = asyncio.create_task(load.run())
    try:
        await _settle(stand, sky, load)
        shares = Shares(stand)
        busy = (await sky.shine(plan.latency_seconds, "busy")).figures("busy")
        busy_share, own = shares.server(), shares.generator()
    finally:
        running.cancel()
    if stand.tally.lost > 0:
        raise Failed(f"the server ended {stand.tally.lost} connections{stand.said()}")
    return {
        **calm,
        "calm_cpu": calm_share,
        **busy,
        "busy_cpu": busy_share,
        "busy_generator_cpu": own,
        "busy_changes": load.rate,
    }


async def _settle(stand: Stand, sky: Stars, load: Load) -> None:
    """Find the load at which the server uses :data:`BUSY` of its CPU, the stars' changes included.

    Raises:
        Failed: there is none that this generator can make.
    """
    share, steady = 0.0, 0
    for attempt in range(_ATTEMPTS):
        shares = Shares(stand)
        await sky.shine(_WINDOW, f"settling {attempt}")
        share = shares.server()
        if abs(share - BUSY) <= _SLACK:
            steady += 1
            if steady == 2:
                return
        else:
            steady = 0
            load.rate *= min(2.0, max(0.5, BUSY / max(share, 0.01)))
    raise Failed(f"no load was found that takes {BUSY:.0%} of the server's CPU; the last one took {share:.0%}")
