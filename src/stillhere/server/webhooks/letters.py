"""Dead letters: what an endpoint did not take for so long that it was given up. Kept by the store, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import msgspec

from stillhere.store.contract import Store

KEPT = 200
"""Letters per hook; the oldest go first, and are counted."""

BYTES = 512 * 1024
"""Of their texts together."""


class Letter(msgspec.Struct, frozen=True, array_like=True):
    """A message that was given up. Times in Unix seconds."""

    id: str
    type: str
    body: bytes
    at: float
    """When it happened."""
    died_at: float
    attempts: int
    reason: str
    """What the last attempt ran into."""


class Box(msgspec.Struct, frozen=True, array_like=True):
    """The letters of a hook, oldest first."""

    letters: Sequence[Letter] = ()
    dropped: int = 0
    """How many there was no room for."""


class Letters:
    """The box of one hook, in a mark of the store."""

    def __init__(self, store: Store, hook: str) -> None:
        """Name the hook by its id."""
        self._store = store
        self._name = f"webhook/{hook}/letters"
        self._turn = asyncio.Lock()

    async def read(self) -> Box:
        """What is in it.

        Raises:
            StoreUnavailable.
        """
        kept = await self._store.get_mark(self._name)
        if kept is None:
            return Box()
        try:
            return msgspec.msgpack.decode(kept, type=Box)
        except msgspec.MsgspecError:  # of another version, or somebody else's: what cannot be read cannot be replayed
            return Box()

    async def add(self, letters: Sequence[Letter]) -> Box:
        """Put letters in; durable when this returns.

        Raises:
            StoreUnavailable.
        """
        async with self._turn:
            box = await self.read()
            # one that was given up on another node a moment ago may come again
            there = {letter.id for letter in letters}
            every = [letter for letter in box.letters if letter.id not in there] + list(letters)
            kept: list[Letter] = []
            size = 0
            for letter in reversed(every):
                size += len(letter.body)
                if len(kept) == KEPT or (kept and size > BYTES):
                    break
                kept.append(letter)
            kept.reverse()
            return await self._write(Box(kept, box.dropped + len(every) - len(kept)))

    async def remove(self, ids: Collection[str]) -> Box:
        """Take letters out.

        Raises:
            StoreUnavailable.
        """
        async with self._turn:
            box = await self.read()
            return await self._write(Box([letter for letter in box.letters if letter.id not in ids], box.dropped))

    async def _write(self, box: Box) -> Box:
        await self._store.set_mark(self._name, msgspec.msgpack.encode(box))
        return box
