"""Redis and Valkey as the engine of the clustered store: looks at the servers, opens lines and readers."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import msgspec

from stillhere.store.contract import StoreRefused, StoreUnavailable
from stillhere.store.redis.addresses import Address, Host, Mode, parse_address
from stillhere.store.redis.checks import about_files, examine, speaks_otherwise
from stillhere.store.redis.codec import decode_entry
from stillhere.store.redis.library import LIBRARY
from stillhere.store.redis.line import LineOptions, RedisLine
from stillhere.store.redis.link import REQUEST_TIMEOUT, Finder, Link, Unreached, Unsuitable, Word
from stillhere.store.redis.reader import RedisReader

LOG_FIELD = b"e"
"""The field of a stream entry that holds it; the function library writes it."""


def partition_key(partition: int, name: str) -> str:
    """A key of a partition; what stands in braces decides the slot in a Cluster."""
    return f"{{stillhere:{partition}}}:{name}"


_MARKS = partition_key(0, "marks")
"""A hash, name to value: the rights to it are those that the function library needs anyway."""


class RedisEngine:
    """Where the partitions are: see :class:`stillhere.store.cluster.line.Engine`."""

    kind = "redis"

    def __init__(
        self, address: Address | str, partitions: int = 1, options: LineOptions | None = None, *, timeout: float = 0.0
    ) -> None:
        """An engine; nothing is connected yet.

        Args:
            address: a Redis URL, or one taken apart.
            partitions: for a Cluster, the same on all nodes; one server has one partition.
            options: for the lines.
            timeout: seconds for a request; 0 for the usual ones.

        Raises:
            StoreRefused: the URL is wrong.
        """
        try:
            self.address = parse_address(address) if isinstance(address, str) else address
        except ValueError as error:
            raise StoreRefused(f"store.url is no Redis URL: {error}") from None
        self.partitions = partitions if self.address.mode is Mode.CLUSTER else 1
        self._options = msgspec.structs.replace(options or LineOptions(), partitions=self.partitions)
        self._timeout = timeout or REQUEST_TIMEOUT
        # half of it, so that the second Sentinel is asked within the time of one request
        self._finder = Finder(self.address, self._timeout / 2)
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._marks: Link | None = None
        self._marks_turn = asyncio.Lock()

    async def check(self) -> None:
        """Look at each server that has a partition, before the node starts.

        Raises:
            StoreRefused: with a sentence: version, arrangement, eviction policy, rights, address.
            StoreUnavailable: it cannot be reached, or cannot serve at the moment.
        """
        problem = about_files(self.address)
        if problem is not None:
            raise StoreRefused(problem)
        try:
            await self._check_servers()
        except Unsuitable as error:
            raise StoreRefused(str(error)) from error
        except Unreached as error:
            otherwise = await speaks_otherwise(self.address, error.host, self._timeout)
            if otherwise is not None:
                raise StoreRefused(otherwise) from error
            raise

    async def _check_servers(self) -> None:
        seen: set[Host] = set()
        for partition in range(self.partitions):
            host = await self._finder.find(partition_key(partition, ""))
            if host in seen:
                continue
            seen.add(host)
            link = await self._open(host)
            try:
                await examine(link, self.address, partition_key(partition, "probe"), LIBRARY.text)
            finally:
                await link.close()

    async def line(self, partition: int) -> RedisLine:
        """Open a line.

        Raises:
            StoreUnavailable: with a sentence; a wrong password too, since it may be about to be changed.
        """
        return RedisLine(await self._link(partition), partition, self._options)

    async def reader(self, partition: int) -> RedisReader:
        """Open a reader.

        Raises:
            StoreUnavailable: with a sentence.
        """
        link = await self._link(partition)
        return RedisReader(link, partition_key(partition, "log"), LOG_FIELD, decode_entry, self._timeout)

    async def get_mark(self, name: str) -> bytes | None:
        """See :class:`stillhere.store.cluster.line.Marks`.

        Raises:
            StoreUnavailable: with a sentence.
        """
        kept: bytes | None = await self._ask_marks("HGET", _MARKS, name)
        return kept

    async def set_mark(self, name: str, value: bytes | None) -> None:
        """See :class:`stillhere.store.cluster.line.Marks`.

        Raises:
            StoreUnavailable: with a sentence.
        """
        await self._ask_marks(*(("HDEL", _MARKS, name) if value is None else ("HSET", _MARKS, name, value)))

    async def _ask_marks(self, *request: Word) -> Any:
        """Over a connection of its own: what is said of the partitions must not wait for it."""
        async with self._marks_turn:
            if self._marks is None or self._marks.closed:
                self._marks = await self._link(0)
            return await self._marks.ask(*request)

    async def close(self) -> None:
        """End every connection that is still open; never raises."""
        for link in list(self._links):
            await link.close()

    async def _link(self, partition: int) -> Link:
        if not 0 <= partition < self.partitions:
            raise StoreUnavailable(f"there is no partition {partition}: there are {self.partitions}, from 0")
        link = await self._open(await self._finder.find(partition_key(partition, "")))
        self._links.add(link)
        return link

    async def _open(self, host: Host) -> Link:
        return await (await Link(self.address, host, LIBRARY.text, self._timeout).open()).greet(self.address.mode)
