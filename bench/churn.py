"""People who come and go all the time, so many doings a second, for as long as one likes."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from bench.client import Client, masked
from bench.stand import Crowd, in_turns
from bench.watching import clock

ROOM = 50
"""Members of a room."""

DOINGS = {"reload": 8, "cut": 4, "depart": 2, "move": 3, "availability": 3}
"""In which proportion: reload a page, lose the network, say goodbye and come back, change rooms, become busy."""

_AWAY = (0.02, 0.5)
"""Seconds between two connections of a person."""


class Churn:
    """A crowd that does not rest. Each person is in one room.

    Attributes:
        done: how often each doing was done.
    """

    def __init__(self, crowd: Crowd, people: int, rate: float, seed: str = "churn") -> None:
        """Nobody is there yet.

        Args:
            crowd: where they come.
            people: how many.
            rate: doings per second of all of them.
            seed: of the random numbers.
        """
        self.done: Counter[str] = Counter()
        self._crowd = crowd
        self._rate = rate
        self._chance = random.Random(seed)
        self._names = [f"user-{n:05}" for n in range(people)]
        self._rooms = [n // ROOM for n in range(people)]
        self._clients: dict[int, Client] = {}
        self._resting: list[int] = []

    async def come(self) -> None:
        """Let all come."""
        await in_turns(range(len(self._names)), self._enter)
        self._resting = list(range(len(self._names)))

    async def run(self, seconds: float) -> None:
        """Go on for so long; then all are there."""
        end = clock() + seconds
        due = clock()
        async with asyncio.TaskGroup() as group:
            while due < end:
                if (wait := due - clock()) > 0:
                    await asyncio.sleep(wait)
                due += 1 / self._rate
                if self._resting:
                    group.create_task(self._do(self._pick()))
                else:
                    await asyncio.sleep(0.01)

    async def go(self) -> None:
        """All leave in all the ways there are: some say goodbye, some close, some are cut off."""
        for at, (number, client) in enumerate(sorted(self._clients.items())):
            self._leave(number, client, ("bye", "close", "reload", "cut")[at % 4])
            if at % 100 == 99:
                await asyncio.sleep(0.01)
        self._clients.clear()
        await self._crowd.gone()

    def _pick(self) -> int:
        """One of those who rest; the last one takes its place in the list."""
        at = self._chance.randrange(len(self._resting))
        self._resting[at], self._resting[-1] = self._resting[-1], self._resting[at]
        return self._resting.pop()

    async def _do(self, number: int) -> None:
        [doing] = self._chance.choices(list(DOINGS), list(DOINGS.values()))
        client = self._clients[number]
        if doing == "move":
            await client.ask("leave", f'"room":"room {self._rooms[number]}"')
            self._rooms[number] = self._chance.randrange(-(-len(self._names) // ROOM))
            await client.ask("join", f'"room":"room {self._rooms[number]}"')
        elif doing == "availability":
            await client.ask("state", f'"availability":"{self._chance.choice(("busy", "away", "active"))}"')
        else:
            self._leave(number, client, "bye" if doing == "depart" else doing)
            await asyncio.sleep(self._chance.uniform(*_AWAY))
            await self._enter(number)
        self.done[doing] += 1
        self._resting.append(number)

    async def _enter(self, number: int) -> None:
        client = self._clients[number] = await self._crowd.visit(self._names[number])
        await client.ask("join", f'"room":"room {self._rooms[number]}"')

    def _leave(self, number: int, client: Client, how: str) -> None:
        if how == "bye":
            client.say(masked(b'{"type":"bye"}'))
        self._crowd.leave(client, {"bye": 1000, "close": 1000, "reload": 1001}.get(how))
