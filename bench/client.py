"""The load generator's WebSocket client: as little work per frame as Python allows.

It masks with a key of zeros (which RFC 6455 allows, and which costs nothing), counts the frames it gets, and looks into
one only when somebody waits for it.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import itertools
import json
import socket
from collections.abc import Sequence

_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; not in Python's socket module
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_LOOK = 200
"""How far into a frame the text that is waited for may stand."""

_addresses = itertools.cycle(f"127.0.{net}.{host}" for net in range(1, 9) for host in range(1, 9))


def mint(secret: str, user: str, expires_at: float) -> str:
    """An HS256 token that allows its user to watch everybody and to enter every room."""
    claims = {"sub": user, "exp": int(expires_at), "watch": "*", "rooms": "*"}
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
    digest = hmac.digest(secret.encode(), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def _part(value: object) -> str:
    text = json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


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

    __slots__ = ("_head", "_ids", "_needle", "_pending", "_rest", "_tally", "_waiter", "kept", "transport", "user")

    transport: asyncio.Transport

    def __init__(self, user: str, head: bytes, tally: Tally) -> None:
        """Prepare.

        Args:
            user: whose connection it is.
            head: of the upgrade request.
            tally: to count in.
        """
        self.user = user
        self.kept: list[bytes] | None = None
        """Set it to a list to keep the text of every frame."""
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
            answer = self._expect(b"welcome")
            await loop.create_connection(lambda: self, sock=sock)
        except BaseException:
            sock.close()
            raise
        await answer

    def say(self, message: bytes) -> None:
        """Send a message, already masked."""
        self.transport.write(message)

    async def ask(self, kind: str, fields: str) -> None:
        """Send a request and wait for its answer."""
        self._ids += 1
        answer = self._expect(b'"id":%d' % self._ids)
        self.transport.write(masked(f'{{"type":"{kind}","id":{self._ids},{fields}}}'.encode()))
        await answer

    def _expect(self, needle: bytes) -> asyncio.Future[None]:
        self._needle = needle
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

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
                if self._waiter is not None and self._needle in data[start : min(end, start + _LOOK)]:
                    waiter, self._waiter = self._waiter, None
                    if not waiter.done():
                        waiter.set_result(None)
                if self.kept is not None:
                    self.kept.append(data[start:end])
            elif opcode == _PING:
                self.transport.write(masked(data[start:end], _PONG))
            elif opcode == _CLOSE:
                self._fail(ConnectionError(f"{self.user}: closed with {data[start:end]!r}"))
            at = end
        self._pending = data[at:]
        self._tally.frames += texts
        self._tally.octets += at


def upgrade_head(port: int, user: str, token: str) -> bytes:
    """What a browser would send, the cookies left out."""
    return (
        f"GET /ws?tab=tab-{user} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{port}\r\n"
        "Connection: Upgrade\r\n"
        "Pragma: no-cache\r\n"
        "Cache-Control: no-cache\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 "
        "Safari/537.36\r\n"
        "Upgrade: websocket\r\n"
        f"Origin: http://127.0.0.1:{port}\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        "Accept-Encoding: gzip, deflate, br, zstd\r\n"
        "Accept-Language: en-GB,en;q=0.9\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Protocol: stillhere.v1, bearer.{token}\r\n\r\n"
    ).encode()


def users_in(frames: Sequence[bytes]) -> set[str]:
    """Who is in a room, according to what one of its members was told."""
    there: set[str] = set()
    for text in frames:
        message = json.loads(text)
        if message["type"] != "room":
            continue
        there -= {m["user"] for m in message.get("leaves", ())}
        for key in ("members", "joins", "updates"):
            there |= {m["user"] for m in message.get(key, ())}
    return there
