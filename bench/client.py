"""The load generator's WebSocket client: as little work per frame as Python allows.

It masks with a key of zeros (which RFC 6455 allows, and which costs nothing), counts the frames it gets, and looks into
one only when somebody waits for it. What it says is up to a :class:`~bench.dialects.Dialect`.
"""

from __future__ import annotations

import asyncio
import itertools
import socket

from bench.dialects import STILLHERE, Dialect
from bench.dialects import mint as mint
from bench.dialects import upgrade_head as upgrade_head
from bench.dialects import users_in as users_in

_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; not in Python's socket module
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_addresses = itertools.cycle(f"127.0.{net}.{host}" for net in range(1, 9) for host in range(1, 9))


def masked(payload: bytes, opcode: int = _TEXT) -> bytes:
    """A client's frame, masked with zeros."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65536:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


class Tally:
    """What all clients together have received."""

    __slots__ = ("frames", "lost", "octets")

    def __init__(self) -> None:
        self.frames = 0
        """Text frames."""
        self.octets = 0
        """Bytes, headers included."""
        self.lost = 0
        """Connections that the server ended."""


class Client(asyncio.Protocol):
    """One connection of one user."""

    __slots__ = (
        *("_attentive", "_dialect", "_first", "_head", "_ids", "_kept", "_needle", "_pending", "_rest", "_room"),
        *("_tally", "_token", "_waiter", "transport", "user"),
    )

    transport: asyncio.Transport

    def __init__(self, user: str, head: bytes, tally: Tally, dialect: Dialect = STILLHERE, token: str = "") -> None:
        """Prepare.

        Args:
            user: whose connection it is.
            head: of the upgrade request.
            tally: to count in.
            dialect: what the server speaks.
            token: for the dialects that show it after the upgrade.
        """
        self.user = user
        self._dialect = dialect
        self._token = token
        self._kept: list[bytes] | None = None
        self._attentive = dialect.heeds
        """Whether texts are looked into at all."""
        self._room = ""
        """The one that was joined last."""
        self._first = b""
        """Sent as soon as the connection is upgraded."""
        self._head = head
        self._tally = tally
        self._rest: bytes | None = b""
        """Of the answer to the upgrade; None once it is there."""
        self._pending = b""
        """The beginning of a frame."""
        self._needle = b""
        self._waiter: asyncio.Future[None] | None = None
        self._ids = 0

    # -- for the phases ---------------------------------------------------------------------------------------------

    async def open(self, port: int) -> None:
        """Connect, authenticate, and wait for the welcome."""
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((next(_addresses), 0))
            await loop.sock_connect(sock, ("127.0.0.1", port))
            (first, needle), *others = self._dialect.greeting(self.user, self._token)
            if first:
                self._first = masked(first.encode())
            answer = self._expect(needle)
            await loop.create_connection(lambda: self, sock=sock)
        except BaseException:
            sock.close()
            raise
        await answer
        for text, needle in others:
            answer = self._expect(needle)
            self.say(masked(text.encode()))
            await answer

    def say(self, message: bytes) -> None:
        """Send a message, already masked."""
        self.transport.write(message)

    async def ask(self, kind: str, fields: str) -> None:
        """Send a request of Stillhere's own protocol and wait for its answer."""
        self._ids += 1
        await self._request(f'{{"type":"{kind}","id":{self._ids},{fields}}}')

    async def join(self, room: str) -> None:
        """Enter a room and wait for the answer."""
        await self._request(self._join(room))

    async def watch(self, whom: str) -> None:
        """Ask to be told of a user and wait for the answer."""
        self._ids += 1
        await self._request(self._dialect.watch(self._ids, self.user, whom))

    async def change(self, availability: str) -> None:
        """Become ``active`` or ``busy`` and wait for the answer."""
        await self._request(self._change(availability))

    def joining(self, room: str) -> bytes:
        """The request to enter a room, to be sent with :meth:`say`."""
        return masked(self._join(room).encode())

    def changing(self, availability: str) -> bytes:
        """The request to become ``active`` or ``busy``, to be sent with :meth:`say`."""
        return masked(self._change(availability).encode())

    @property
    def answers(self) -> int:
        """Frames that a request is answered with, beside those that members and watchers get."""
        return self._dialect.answers

    @property
    def kept(self) -> list[bytes] | None:
        """The texts of all frames since it was set to a list."""
        return self._kept

    @kept.setter
    def kept(self, texts: list[bytes] | None) -> None:
        self._kept = texts
        self._attend()

    def known(self) -> set[str]:
        """Who is in the room, according to what was kept."""
        return self._dialect.users_in(self._kept or ())

    def _join(self, room: str) -> str:
        self._ids += 1
        self._room = room
        return self._dialect.join(self._ids, self.user, room)

    def _change(self, availability: str) -> str:
        self._ids += 1
        return self._dialect.state(self._ids, self.user, self._room, availability)

    async def _request(self, text: str) -> None:
        answer = self._expect(self._dialect.answer(self._ids))
        self.transport.write(masked(text.encode()))
        await answer

    def _expect(self, needle: bytes) -> asyncio.Future[None]:
        self._needle = needle
        self._waiter = asyncio.get_running_loop().create_future()
        self._attentive = True
        return self._waiter

    def _attend(self) -> None:
        self._attentive = self._waiter is not None or self._kept is not None or self._dialect.heeds

    # -- what the loop calls ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a TCP connection's is an asyncio.Transport
        self.transport.write(self._head)
        self._head = b""

    def data_received(self, data: bytes) -> None:
        if self._rest is None:
            self._frames(data)
            return
        data = self._rest + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._rest = data
        elif data[:12] != b"HTTP/1.1 101":
            self._fail(ConnectionError(f"{self.user}: the upgrade was refused: {data[:300]!r}"))
        else:
            self._rest = None
            if self._first:
                self.transport.write(self._first)
            if end + 4 < len(data):
                self._frames(data[end + 4 :])

    def connection_lost(self, exc: Exception | None) -> None:
        self._tally.lost += 1
        self._fail(ConnectionError(f"{self.user}: the server ended the connection: {exc}"))

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _frames(self, data: bytes) -> None:
        if self._pending:
            data = self._pending + data
        at, size, texts = 0, len(data), 0
        while size - at >= 2:
            start = at + 2
            length = data[at + 1]
            if length == 126:
                start += 2
                length = int.from_bytes(data[at + 2 : at + 4], "big")
            elif length == 127:
                start += 8
                length = int.from_bytes(data[at + 2 : at + 10], "big")
            end = start + length
            if end > size:
                break
            opcode = data[at] & 15
            if opcode == _TEXT:
                texts += 1
                if self._attentive and self._replied(data[start:end]):
                    texts -= 1
            elif opcode == _PING:
                self.transport.write(masked(data[start:end], _PONG))
            elif opcode == _CLOSE:
                self._fail(ConnectionError(f"{self.user}: closed with {data[start:end]!r}"))
            at = end
        self._pending = data[at:]
        self._tally.frames += texts
        self._tally.octets += at

    def _replied(self, text: bytes) -> bool:
        """Look into a text; whether it only asked for a reply and is no delivery."""
        try:
            reply = self._dialect.reply(text)
        except ConnectionError as refusal:
            self._fail(refusal)
            return False
        if reply is not None:
            self.transport.write(masked(reply.encode()))
            return True
        if self._waiter is not None and text.find(self._needle, 0, self._dialect.look) >= 0:
            waiter, self._waiter = self._waiter, None
            self._attend()
            if not waiter.done():
                waiter.set_result(None)
        if self._kept is not None:
            self._kept.append(text)
        return False
