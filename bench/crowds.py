"""Phases with large crowds: friends who watch each other, and all who were cut off and come back."""

from __future__ import annotations

import asyncio
import random

from bench.client import Client, masked
from bench.plan import Figures, Plan, names
from bench.stand import Failed, Stand, in_turns
from bench.watching import Departures, Shown, arrivals, clock, on_time

ROOM = 50
"""Members of each room that comes back."""

ROOMS_PER_WITNESS = 90
WATCHED_BY_WITNESS = 900
"""Below the limits of a connection, 100 rooms and 1,000 users."""

LONGEST_WINDOW = 16.0
"""Seconds after which the window of a cut connection has run out, by default (15 s) and a sweep."""


async def friends(stand: Stand, plan: Plan) -> Figures:
    """Everybody watches some others, nobody shares a room; changes come at random times, in open loop."""
    users = names(plan.friends)
    people = await stand.crowd(users)
    # The same distances for all: each watches and is watched by exactly so many.
    distances = random.Random("friends").sample(range(1, len(users)), plan.watched)

    async def watch(at: int) -> None:
        listed = ",".join(f'"{users[(at + distance) % len(users)]}"' for distance in distances)
        await people[at].ask("watch", f'"users":[{listed}]')

    await in_turns(range(len(people)), watch)
    await stand.quiet(1.0)
    shown = Shown()
    for person in people:
        person.kept = shown
    count = min(round(plan.flips * plan.friends_seconds), len(people))
    offsets = arrivals(plan.flips, count / plan.flips, "friends")
    begin = clock() + 0.2
    due = [begin + offset for offset in offsets]
    request = masked(b'{"type":"state","id":9000,"availability":"busy"}')

    def flip(number: int) -> None:
        shown.expect(users[number], due[number])
        people[number].say(request)

    frames, cpu = stand.tally.frames, stand.cpu()
    late = await on_time(due, flip)
    deliveries = len(due) * plan.watched
    await shown.complete(deliveries)
    await stand.quiet()
    cpu = stand.cpu() - cpu
    return {
        "friends_us": cpu / deliveries * 1e6,
        "friends_frames": stand.tally.frames - frames - len(due),
        **shown.figures("friends"),
        "friends_late_ms": late * 1000,
    }


async def reconnect(stand: Stand, plan: Plan) -> Figures:
    """All are cut off at once, without a close frame, and come back at once; witnesses see whether anybody was gone."""
    users = names(plan.connections)
    rooms = [f"room {at // ROOM}" for at in range(len(users))]
    people: dict[int, Client] = {}

    async def come(at: int) -> None:
        people[at] = await stand.visit(users[at])
        await people[at].ask("join", f'"room":"{rooms[at]}"')

    await in_turns(range(len(users)), come)
    departures = await _witnesses(stand, sorted(set(rooms)), users)
    await stand.quiet(1.0)
    cut, cpu = clock(), stand.cpu()
    for person in people.values():
        stand.leave(person)
    # Nobody waits for anybody: a client knows only of its own connection.
    await in_turns(range(len(users)), come)
    back = clock() - cut
    await stand.gone()
    await stand.quiet()
    cpu = stand.cpu() - cpu
    await asyncio.sleep(max(0.0, cut + LONGEST_WINDOW - clock()))  # nobody is to be shown as gone later, either
    await stand.quiet(0.2)
    if back > LONGEST_WINDOW - 2:
        raise Failed(f"it took {back:.1f} s until all were back: too long to tell of windows")
    return {"reconnect_us": cpu / len(users) * 1e6, "reconnect_s": back, "reconnect_gone": departures.wrong}


async def _witnesses(stand: Stand, rooms: list[str], users: list[str]) -> Departures:
    """Members of all rooms, and watchers of all users."""
    departures = Departures()
    for first in range(0, len(rooms), ROOMS_PER_WITNESS):
        witness = await stand.visit(f"member-{first}")
        for room in rooms[first : first + ROOMS_PER_WITNESS]:
            await witness.ask("join", f'"room":"{room}"')
        witness.kept = departures
    for first in range(0, len(users), WATCHED_BY_WITNESS):
        witness = await stand.visit(f"watcher-{first}")
        listed = ",".join(f'"{user}"' for user in users[first : first + WATCHED_BY_WITNESS])
        await witness.ask("watch", f'"users":[{listed}]')
        witness.kept = departures
    return departures
