"""The phase `hour`: what a thousand people do in an hour of work, in half a minute.

The same people do the same things at the same moments on every server; a seed says which. Nobody is away for longer
than the window that applies, but for those who said goodbye: whoever else is shown as gone is so for nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import NamedTuple

from bench.client import Client, masked
from bench.plan import Figures, Plan, names
from bench.reads import Reader, can_read
from bench.stand import Failed, Stand
from bench.watching import Departures, clock

MIX = {"reload": 4, "flap": 1, "join": 2, "availability": 6, "read": 2, "departure": 1}
"""How often each person does each in an hour, after coming once."""

AWAY = {"reload": (0.05, 1.0), "flap": (0.2, 2.0), "departure": (1.5, 2.5)}
"""Seconds until the next connection of the same tab: windows are 8 s (1001), 15 s (no close frame), and none."""

ROOM = 20
"""Members of each room in the beginning."""

FRIENDS = 20
"""Whom each person watches."""

_ARRIVING = 0.3
"""The share of the time in which people come."""
_READERS = 4
_ROOMS_PER_WITNESS = 90
_WATCHED_BY_WITNESS = 900


class Deed(NamedTuple):
    """What somebody does, when, and for how long they are away then, in seconds."""

    at: float
    what: str
    away: float


def diary(user: int, seconds: float) -> list[Deed]:
    """The hour of one person, in order; the first deed is to come."""
    chance = random.Random(f"hour {user}")
    come = chance.uniform(0.0, seconds * _ARRIVING)
    kinds = [kind for kind, times in MIX.items() for _ in range(times)]
    chance.shuffle(kinds)
    moments = sorted(chance.uniform(come, seconds) for _ in kinds)
    deeds = [Deed(come, "come", 0.0)]
    deeds += [
        Deed(at, kind, chance.uniform(*AWAY.get(kind, (0.0, 0.0)))) for at, kind in zip(moments, kinds, strict=True)
    ]
    return deeds


class Person:
    """Somebody with one tab, who watches friends and is in rooms."""

    def __init__(self, hour: Hour, number: int) -> None:
        """Not there yet.

        Args:
            hour: that it is part of.
            number: which of the people it is.
        """
        self._hour = hour
        self._name = hour.users[number]
        self._chance = random.Random(f"person {number}")
        self._rooms = [f"room {number // ROOM}"]
        self._friends = ",".join(f'"{user}"' for user in self._chance.sample(hour.users, FRIENDS))
        self._busy = False
        self._client: Client | None = None

    async def live(self, begin: float, deeds: list[Deed]) -> None:
        """Do it all, each deed when it is due or as soon as the one before is done."""
        for deed in deeds:
            await asyncio.sleep(max(0.0, begin + deed.at - clock()))
            await self._do(deed)

    async def _do(self, deed: Deed) -> None:
        match deed.what:
            case "come":
                await self._come()
            case "join":
                await self._join(f"room {self._chance.randrange(self._hour.rooms)}")
            case "availability":
                self._busy = not self._busy
                await self._there().ask("state", f'"availability":"{"busy" if self._busy else "active"}"')
            case "read":
                await self._hour.read(self._chance.choice(self._hour.users))
            case _:
                await self._go(deed)
                await asyncio.sleep(deed.away)
                await self._come()
                self._hour.departures.parted.discard(self._name)
        self._hour.deeds += 1

    async def _come(self) -> None:
        self._client = await self._hour.stand.visit(self._name)
        for room in self._rooms:
            await self._there().ask("join", f'"room":"{room}"')
        await self._there().ask("watch", f'"users":[{self._friends}]')
        if self._busy:
            await self._there().ask("state", '"availability":"busy"')

    async def _go(self, deed: Deed) -> None:
        stand = self._hour.stand
        if deed.what == "departure":
            self._hour.departures.parted.add(self._name)
            self._there().say(masked(b'{"type":"bye"}'))
            stand.leave(self._there(), 1000)
        else:
            stand.leave(self._there(), 1001 if deed.what == "reload" else None)

    async def _join(self, room: str) -> None:
        if room not in self._rooms:
            self._rooms.append(room)
            await self._there().ask("join", f'"room":"{room}"')

    def _there(self) -> Client:
        assert self._client is not None, "a diary begins with coming"
        return self._client


class Hour:
    """What the people have in common."""

    def __init__(self, stand: Stand, users: list[str], readers: list[Reader]) -> None:
        """Nothing has happened.

        Args:
            stand: the server.
            users: all people.
            readers: for reads over HTTP; none where there is no HTTP API.
        """
        self.stand = stand
        self.users = users
        self.rooms = -(-len(users) // ROOM)
        self.departures = Departures()
        self.deeds = 0
        self.reads = 0
        self._readers: asyncio.Queue[Reader] = asyncio.Queue()
        self._can_read = bool(readers)
        for reader in readers:
            self._readers.put_nowait(reader)

    async def read(self, user: str) -> None:
        """Ask for a user over HTTP.

        Raises:
            Failed: there is no answer.
        """
        if not self._can_read:
            return
        reader = await self._readers.get()
        status, body = await reader.get(f"/v1/users/{user}")
        self._readers.put_nowait(reader)
        if status != 200:
            raise Failed(f"/v1/users/{user} was answered with {status}: {body[:200]!r}")
        self.reads += 1

    async def witnesses(self) -> None:
        """Let somebody watch everybody, and be in all rooms."""
        rooms = [f"room {number}" for number in range(self.rooms)]
        for number, part in enumerate(_parts(rooms, _ROOMS_PER_WITNESS)):
            witness = await self.stand.visit(f"member-{number}")
            for room in part:
                await witness.ask("join", f'"room":"{room}"')
            witness.kept = self.departures
        for number, part in enumerate(_parts(self.users, _WATCHED_BY_WITNESS)):
            witness = await self.stand.visit(f"watcher-{number}")
            listed = ",".join(f'"{user}"' for user in part)
            await witness.ask("watch", f'"users":[{listed}]')
            witness.kept = self.departures


def _parts(whole: list[str], size: int) -> Iterator[list[str]]:
    for first in range(0, len(whole), size):
        yield whole[first : first + size]


async def hour(stand: Stand, plan: Plan) -> Figures:
    """People come, reload, lose their network, join rooms, become busy, read, and leave; nobody is gone for nothing."""
    users = names(plan.hour_users)
    async with AsyncExitStack() as stack:
        readers: list[Reader] = []
        if await can_read(stand.port):
            readers = [await stack.enter_async_context(Reader(stand.port)) for _ in range(_READERS)]
        whole = Hour(stand, users, readers)
        await whole.witnesses()
        await stand.quiet()
        memory, cpu, begin = stand.memory(), stand.cpu(), clock() + 0.1
        people = [Person(whole, number) for number in range(len(users))]
        async with asyncio.TaskGroup() as group:
            for number, person in enumerate(people):
                group.create_task(person.live(begin, diary(number, plan.hour_seconds)))
        took = clock() - begin
        await stand.gone()
        await stand.quiet()
        cpu = stand.cpu() - cpu
        await asyncio.sleep(plan.settle)
        return {
            "hour_cpu_s": cpu,
            "hour_kib": (stand.memory() - memory) / 1024 / len(users),
            "hour_gone": whole.departures.wrong,
            "hour_deeds": whole.deeds,
            "hour_reads": whole.reads,
            "hour_s": took,
        }
