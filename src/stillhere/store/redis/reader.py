"""Reads the log of one partition, and notices when it does not continue.

The log is a stream whose ids are places: ``<epoch>-<seq>``, without a hole inside an epoch. Whatever breaks that is a
**gap**: entries were trimmed, the epoch is another one, the stream is gone. What another program wrote into the stream
is skipped and counted; it must not stop a reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stillhere.core.events import Notice, Transition
from stillhere.store.cluster.line import ToldLog
from stillhere.store.redis.link import Link

Decode = Callable[[bytes], Transition | Notice]
"""Raises whatever it likes for what it cannot read."""

Place = tuple[int, int]


class RedisReader:
    """One connection that waits for news; see :class:`stillhere.store.cluster.line.Reader`."""

    def __init__(self, link: Link, key: str, field: bytes, decode: Decode, timeout: float) -> None:
        """A reader.

        Args:
            link: a connection of its own.
            key: of the stream.
            field: the one field of an entry.
            decode: makes an entry of its value.
            timeout: seconds for an answer beyond what was to be waited.
        """
        self._link = link
        self._key = key
        self._field = field
        self._decode = decode
        self._timeout = timeout
        # Strange entries are not told of, so the caller's place may lie before them: they must not be read for ever.
        self._told: Place = (0, 0)
        self._read_to: Place = (0, 0)

    async def read(self, epoch: int, seq: int, limit: int, wait: float) -> ToldLog:
        """What came after a place; waits up to ``wait`` seconds for something to come.

        A place at the very beginning of an epoch continues a stream that still ends in an older one: nothing was
        written in the new epoch yet.

        Raises:
            StoreUnavailable: the reader is closed then.
        """
        place = (epoch, seq)
        start = self._read_to if place == self._told else place
        found = await self._entries(start, limit, wait)
        if found:
            return self._sort(place, start, found)
        late = await self._look_again(start, limit)
        return ToldLog(gap=True) if late is None else self._sort(place, start, late)

    async def close(self) -> None:
        """End the connection; never raises."""
        await self._link.close()

    async def _entries(self, start: Place, limit: int, wait: float) -> list[Any]:
        block = ("BLOCK", max(1, round(wait * 1000))) if wait > 0 else ()
        request = ("XREAD", *block, "COUNT", limit, "STREAMS", self._key, f"{start[0]}-{start[1]}")
        reply = await self._link.ask(*request, timeout=max(0.0, wait) + self._timeout)
        return list(reply[0][1]) if reply else []

    async def _look_again(self, start: Place, limit: int) -> list[Any] | None:
        """Nothing came: is that because nothing happened? None for a gap."""
        last = await self._last()
        if last == start:
            return []
        if last > start:
            # written between the two requests, or written and already trimmed
            return await self._entries(start, limit, 0.0) or None
        return [] if start[1] == 0 else None

    async def _last(self) -> Place:
        """The last id that the stream has given out; 0-0 for no stream."""
        reply = (await self._link.ask_all([("XINFO", "STREAM", self._key)], errors=True))[0]
        if isinstance(reply, list):
            facts = dict(zip(reply[::2], reply[1::2], strict=True))
            return _place(facts[b"last-generated-id"])
        if "no such key" in str(reply):
            return (0, 0)
        # anything else is raised with its sentence, and closes the link
        await self._link.ask("XINFO", "STREAM", self._key)
        return (0, 0)

    def _sort(self, place: Place, start: Place, found: Sequence[Any]) -> ToldLog:
        """Ours in order up to the first hole; what is strange is counted."""
        entries: list[tuple[int, int, Transition | Notice | None]] = []
        strange, at, read_to = 0, place, start
        for name, fields in found:
            here = _place(name)
            entry = self._open(fields)
            if entry is None:
                strange += 1
            if here == (at[0], at[1] + 1):
                entries.append((*here, entry))
                at = here
            elif entry is not None:
                # a hole, or another epoch: told now if there is nothing before it, otherwise by the next read
                if not entries:
                    return ToldLog(gap=True, strange=strange)
                break
            read_to = here
        self._told, self._read_to = at, read_to
        return ToldLog(entries=entries, strange=strange)

    def _open(self, fields: Sequence[bytes] | None) -> Transition | Notice | None:
        # a deleted entry may have no fields at all
        if not fields or len(fields) != 2 or fields[0] != self._field:
            return None
        try:
            return self._decode(fields[1])
        except Exception:
            # somebody else's bytes: whatever the decoder says to them
            return None


def _place(name: bytes) -> Place:
    epoch, _, seq = name.partition(b"-")
    return int(epoch), int(seq)
