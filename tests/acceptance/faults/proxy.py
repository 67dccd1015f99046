"""A TCP proxy that can be told to misbehave: the network between two processes, as bad as networks get.

What a real network would do to bytes on their way is kept: bytes that a fault holds back are delivered when it ends,
in order and followed by the end of the connection if its sender has ended it meanwhile, as the kernel's retransmission
would do it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.acceptance.faults.background import Background

T = TypeVar("T")

_CHUNK = 1 << 16
_REMEMBERED = 4096
"""Bytes of the end of what a client said that are searched together with what it says next."""


@dataclass(frozen=True)
class Fault:
    """What happens to the bytes of one direction.

    Attributes:
        hold: nothing arrives before the fault ends.
        swallow: what is sent is lost for good.
        delay: seconds that everything is late.
        drip: seconds between two bytes; 0 sends them as they come.
    """

    hold: bool = False
    swallow: bool = False
    delay: float = 0.0
    drip: float = 0.0


PASS = Fault()
BLACK_HOLE = Fault(hold=True)
SWALLOW = Fault(swallow=True)


class _Pipe:
    """One direction of a connection."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.queue: deque[tuple[float, bytes]] = deque()
        self.ended = False
        self.reset = False
        self.carried = 0
        self._stir = asyncio.Event()

    def become(self, fault: Fault) -> None:
        self.fault = fault
        self._stir.set()

    async def take(self, source: asyncio.StreamReader, heard: Callable[[bytes], None]) -> None:
        """Read all that comes, whatever the fault: held bytes are on their way, not unread."""
        try:
            while chunk := await source.read(_CHUNK):
                heard(chunk)
                self.queue.append((time.monotonic(), chunk))
                self._stir.set()
        except OSError:
            self.reset = True
        self.ended = True
        self._stir.set()

    async def give(self, sink: asyncio.StreamWriter) -> None:
        """Deliver, as the fault allows; returns when the end has been delivered too."""
        while True:
            if self.fault.hold or not (self.queue or self.ended):
                await self._stirred(None)
            elif not self.queue:
                break
            elif (late := self.queue[0][0] + self.fault.delay - time.monotonic()) > 0:
                await self._stirred(late)
            else:
                await self._send(sink)
        if self.reset:
            _abort(sink)
        elif sink.can_write_eof():
            sink.write_eof()

    async def _send(self, sink: asyncio.StreamWriter) -> None:
        at, chunk = self.queue.popleft()
        if self.fault.swallow:
            return
        if self.fault.drip and len(chunk) > 1:
            self.queue.appendleft((at, chunk[1:]))
            chunk = chunk[:1]
        sink.write(chunk)
        self.carried += len(chunk)
        await sink.drain()
        if self.fault.drip:
            await self._stirred(self.fault.drip)

    async def _stirred(self, timeout: float | None) -> None:
        self._stir.clear()
        try:
            await asyncio.wait_for(self._stir.wait(), timeout)
        except TimeoutError:
            pass


class Link:
    """One connection through the proxy."""

    def __init__(self, up: Fault, down: Fault) -> None:
        self.up = _Pipe(up)
        self.down = _Pipe(down)
        self.said = bytearray()
        self.words: set[bytes] = set()
        self.client: asyncio.StreamWriter | None = None
        self.server: asyncio.StreamWriter | None = None
        self.detached = False

    def heard(self, chunk: bytes, words: set[bytes]) -> None:
        """Note which of some words the client has said, ever."""
        self.said += chunk
        self.words |= {word for word in words if word in self.said}
        del self.said[:-_REMEMBERED]


class FaultProxy:
    """Listens on loopback and passes everything on, until it is told otherwise. All methods may be called anywhere."""

    def __init__(self, background: Background, host: str, port: int, *, words: tuple[bytes, ...] = ()) -> None:
        """Listen, on a port that the kernel chooses.

        Args:
            background: the loop to run on.
            host: of the server behind.
            port: of it.
            words: what tells connections apart: see ``saying`` in :meth:`fault`.
        """
        self._background = background
        self._target = (host, port)
        self._words = set(words)
        self._up = self._down = PASS
        self._refuses = False
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = background.call(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.accepted = 0

    # -- control ----------------------------------------------------------------------------------------------------

    def fault(self, up: Fault = PASS, down: Fault = PASS, *, saying: bytes | None = None, new: bool = True) -> None:
        """Let this happen from now on.

        Args:
            up: to what clients send.
            down: to what the server sends.
            saying: only on the connections whose client has said this word.
            new: on connections to come too; never with ``saying``.
        """

        def change() -> None:
            if new and saying is None:
                self._up, self._down = up, down
            for link in self._chosen(saying):
                link.up.become(up)
                link.down.become(down)

        self._do(change)

    def black_hole(self) -> None:
        """Nothing arrives in either direction, on no connection; what is sent is delivered when it ends."""
        self.fault(BLACK_HOLE, BLACK_HOLE)

    def delay(self, seconds: float) -> None:
        """Everything is so late, in both directions."""
        self.fault(Fault(delay=seconds), Fault(delay=seconds))

    def drip(self, seconds: float) -> None:
        """The bytes come one by one."""
        self.fault(Fault(drip=seconds), Fault(drip=seconds))

    def refuse(self) -> None:
        """Reset all connections, and every one to come."""

        def change() -> None:
            self._refuses = True
            self._cut(self._chosen(None))

        self._do(change)

    def reset(self, *, saying: bytes | None = None) -> int:
        """Reset the connections that there are, or those whose client has said this word; returns how many."""

        def change() -> int:
            return self._cut(self._chosen(saying))

        return self._do(change)

    def half_close(self) -> None:
        """Both ends are told that the other one will send nothing more; what they send still arrives."""

        def change() -> None:
            for link in self._links:
                for writer in (link.client, link.server):
                    if writer is not None and writer.can_write_eof():
                        writer.write_eof()

        self._do(change)

    def detach(self, *, saying: bytes | None = None) -> int:
        """Reset the clients' sides; the connections to the server stay, and what was held on its way to it is kept.

        Returns:
            How many bytes are kept.
        """

        def change() -> int:
            kept = 0
            for link in self._chosen(saying):
                link.detached = True
                link.up.become(BLACK_HOLE)
                kept += sum(len(chunk) for _, chunk in link.up.queue)
                if link.client is not None:
                    _abort(link.client)
            return kept

        return self._do(change)

    def deliver(self) -> int:
        """Give the server what :meth:`detach` kept, over the same old connections; returns how many there were."""

        def change() -> int:
            late = [link for link in self._links if link.detached]
            for link in late:
                link.up.become(PASS)
            return len(late)

        return self._do(change)

    def heal(self) -> None:
        """Pass everything on again, what was held first. Detached connections stay as they are."""

        def change() -> None:
            self._refuses = False
            self._up = self._down = PASS
            for link in self._links:
                if not link.detached:
                    link.up.become(PASS)
                    link.down.become(PASS)

        self._do(change)

    def lead_to(self, host: str, port: int) -> None:
        """From now on connections lead to another server; those that there are, are reset."""

        def change() -> None:
            self._target = (host, port)
            self._cut(self._chosen(None))

        self._do(change)

    def held(self) -> int:
        """How many bytes are on their way."""
        return self._do(lambda: sum(len(c) for link in self._links for _, c in (*link.up.queue, *link.down.queue)))

    def count(self, *, saying: bytes | None = None) -> int:
        """How many connections there are, or how many whose client has said this word."""
        return self._do(lambda: len(self._chosen(saying)))

    def close(self) -> None:
        """Listen no more and reset everything."""

        def change() -> None:
            self._server.close()
            self._cut(set(self._links))
            for task in self._tasks:
                task.cancel()

        self._do(change)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _do(self, change: Callable[[], T]) -> T:
        async def run() -> T:
            return change()

        return self._background.call(run())

    def _chosen(self, saying: bytes | None) -> set[Link]:
        assert saying is None or saying in self._words, f"{saying!r} is not among the words that are listened for"
        return {link for link in self._links if not link.detached and (saying is None or saying in link.words)}

    def _cut(self, links: set[Link]) -> int:
        for link in links:
            for writer in (link.client, link.server):
                if writer is not None:
                    _abort(writer)
        return len(links)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = Link(self._up, self._down)
        link.client = writer
        self._links.add(link)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self._refuses:
                await self._carry(link, reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._cut({link})
            self._links.discard(link)
            self._tasks.discard(task)

    async def _carry(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, server = await asyncio.open_connection(*self._target)
        link.server = server
        if self._refuses:
            return
        ways: list[Coroutine[Any, Any, None]] = [
            link.up.take(reader, lambda chunk: link.heard(chunk, self._words)),
            link.up.give(server),
            link.down.take(answers, lambda chunk: None),
            _unless_detached(link, link.down.give(writer)),
        ]
        await asyncio.gather(*ways)


async def _unless_detached(link: Link, giving: Coroutine[Any, Any, None]) -> None:
    """A client that was cut off hears no answers; its old requests are carried all the same."""
    try:
        await giving
    except OSError:
        if not link.detached:
            raise


def _abort(writer: asyncio.StreamWriter) -> None:
    """End with a reset."""
    tcp = writer.get_extra_info("socket")
    if tcp is not None:
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:  # it has ended already
            pass
    writer.transport.abort()
