"""A WebSocket client on a plain socket: blocking, with time-outs, and in full control of frames and of TCP.

It does what no library lets one do: break the rules, never answer, never read, reset, half-close. Nothing is sent that
the test did not ask for, except pongs, and those only while the client is made to receive.

Run as a program it is a client that opens, says so, and answers pings until it is ended: something to be stopped.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

PATIENCE = 15.0
"""Seconds that a test waits for what must come."""

Message = dict[str, Any]


class HandshakeRefused(Exception):
    """The upgrade was answered with something else than 101."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"{status} {body[:300]!r}")
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Closed(Exception):
    """The connection has ended while a message was awaited.

    Attributes:
        code: of the server's close frame; 1006 if there was none.
        reason: of that frame.
        reset: whether TCP ended with a reset.
    """

    def __init__(self, code: int, reason: str = "", *, reset: bool = False) -> None:
        super().__init__(code, reason, "reset" if reset else "")
        self.code = code
        self.reason = reason
        self.reset = reset


class Frame(NamedTuple):
    """A frame as it arrived."""

    opcode: int
    payload: bytes
    fin: bool


def encode_frame(
    opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True, rsv: int = 0, length: int | None = None
) -> bytes:
    """The bytes of a client's frame.

    Args:
        opcode: 4 bits.
        payload: before masking.
        fin: whether it is the last of its message.
        masked: False breaks the rules.
        rsv: the three reserved bits, 0 to 7.
        length: what the header says, if not the truth.
    """
    size = len(payload) if length is None else length
    mask_bit = 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if size < 126:
        head += bytes([mask_bit | size])
    elif size < 1 << 16:
        head += bytes([mask_bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([mask_bit | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    key = os.urandom(4)
    repeated = key * (len(payload) // 4 + 1)
    mixed = int.from_bytes(payload) ^ int.from_bytes(repeated[: len(payload)])
    return head + key + mixed.to_bytes(len(payload))


def text_frame(message: object) -> bytes:
    """The frame of one message: a text as it is, bytes as they are, anything else as JSON."""
    if isinstance(message, bytes):
        return encode_frame(TEXT, message)
    return encode_frame(TEXT, (message if isinstance(message, str) else json.dumps(message)).encode())


def close_payload(code: int, reason: str = "") -> bytes:
    """What a close frame carries."""
    return struct.pack("!H", code) + reason.encode()


def dial(url: str, *, timeout: float = PATIENCE, receive_buffer: int | None = None) -> socket.socket:
    """A TCP connection to the host of a URL; ``receive_buffer`` in bytes makes the kernel keep little for us."""
    parts = urlsplit(url)
    assert parts.hostname is not None and parts.port is not None
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer is not None:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    tcp.settimeout(timeout)
    tcp.connect((parts.hostname, parts.port))
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tcp


def upgrade_head(
    url: str,
    *,
    token: str | None = None,
    protocols: Iterable[str] = ("stillhere.v1",),
    headers: Mapping[str, str] | None = None,
    drop: Iterable[str] = (),
) -> bytes:
    """A request to upgrade.

    Args:
        url: ``ws://…`` with path and query.
        token: goes along as a subprotocol, as browsers do it.
        protocols: the others.
        headers: more, or others in place of the usual ones.
        drop: names of usual ones to leave out.
    """
    parts = urlsplit(url)
    offered = [*protocols, *([f"bearer.{token}"] if token is not None else [])]
    usual = {
        "Host": parts.netloc,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        **({"Sec-WebSocket-Protocol": ", ".join(offered)} if offered else {}),
        **(headers or {}),
    }
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    dropped = set(drop)
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in usual.items() if name not in dropped)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


class Raw:
    """One WebSocket, or on its way to become one."""

    def __init__(self, tcp: socket.socket) -> None:
        """Take over a TCP connection."""
        self.tcp = tcp
        self.answers_pings = True
        self.headers: dict[str, str] = {}
        self.pings = 0
        """How many the server has sent that this client saw."""
        self.seen: list[Message] = []
        """Every message that was received."""
        self._buffer = bytearray()
        self._partial = bytearray()

    @classmethod
    def open(
        cls,
        url: str,
        token: str | None = None,
        *,
        tab: str | None = None,
        query: str = "",
        welcome: bool = True,
        timeout: float = PATIENCE,
        receive_buffer: int | None = None,
        protocols: Iterable[str] = ("stillhere.v1",),
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Connect, upgrade and, with a token, wait for the welcome.

        Args:
            url: ``ws://host:port/ws``.
            token: the bearer token.
            tab: the ``tab`` parameter.
            query: further parameters.
            welcome: False leaves the welcome to be received.
            timeout: bound of every wait, in seconds.
            receive_buffer: see :func:`dial`.
            protocols: see :func:`upgrade_head`.
            headers: see :func:`upgrade_head`.

        Raises:
            HandshakeRefused: the answer is not 101.
        """
        both = "&".join(part for part in (f"tab={tab}" if tab is not None else "", query) if part)
        client = cls(dial(url, timeout=timeout, receive_buffer=receive_buffer))
        try:
            target = f"{url}?{both}" if both else url
            client.raw(upgrade_head(target, token=token, protocols=protocols, headers=headers))
            client.upgraded()
            if welcome and token is not None:
                client.expect("welcome")
        except BaseException:
            client.tcp.close()
            raise
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.tcp.close()

    # -- sending ----------------------------------------------------------------------------------------------------

    def raw(self, content: bytes) -> None:
        """Send bytes."""
        self.tcp.sendall(content)

    def dribble(self, content: bytes, size: int = 1, pause: float = 0.0) -> None:
        """Send bytes in writes of ``size``, each a segment of its own."""
        for start in range(0, len(content), size):
            self.tcp.sendall(content[start : start + size])
            if pause:
                time.sleep(pause)

    def send(self, message: object) -> None:
        """Send one message; see :func:`text_frame`."""
        self.raw(text_frame(message))

    def frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, rsv: int = 0) -> None:
        """Send one frame; see :func:`encode_frame`."""
        self.raw(encode_frame(opcode, payload, fin=fin, masked=masked, rsv=rsv))

    def close_frame(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame, and nothing else."""
        self.frame(CLOSE, close_payload(code, reason))

    # -- the ends of TCP --------------------------------------------------------------------------------------------

    def rst(self) -> None:
        """End TCP with a reset."""
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.tcp.close()

    def fin(self) -> None:
        """End TCP in order, without a close frame."""
        self.tcp.shutdown(socket.SHUT_RDWR)
        self.tcp.close()

    def half_close(self) -> None:
        """End our half of TCP; the other can still be read."""
        self.tcp.shutdown(socket.SHUT_WR)

    def leave(self, code: int = 1001, reason: str = "") -> None:
        """Close as a browser does: close frame, the server's answer, end of TCP."""
        self.close_frame(code, reason)
        self.closed()
        self.tcp.close()

    def answer_close(self, end: Closed) -> None:
        """End as a well-behaved client does: the server's close frame, if there was one, is answered; then TCP ends."""
        if end.code != 1006:
            try:
                self.frame(CLOSE, close_payload(end.code) if end.code != 1005 else b"")
            except OSError:  # the server did not wait for it
                pass
        self.tcp.close()

    # -- receiving --------------------------------------------------------------------------------------------------

    def upgraded(self) -> None:
        """Read the answer to the upgrade.

        Raises:
            HandshakeRefused: it is not 101.
        """
        status, self.headers, body = self.response()
        if status != 101:
            raise HandshakeRefused(status, self.headers, body)

    def response(self) -> tuple[int, dict[str, str], bytes]:
        """Read one HTTP answer: status, headers (lower case) and body. Status 0: TCP ended without one."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return 0, {}, bytes(self._buffer)
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split(" ")[1])
        size = 0 if status == 101 else int(headers.get("content-length", "0"))
        while len(self._buffer) < size and self._more():
            pass
        body = bytes(self._buffer[:size])
        del self._buffer[:size]
        return status, headers, body

    def next_frame(self) -> Frame:
        """Read one frame.

        Raises:
            Closed: TCP has ended.
            TimeoutError: nothing came in time.
        """
        while (found := self._parse()) is None:
            try:
                alive = self._more()
            except ConnectionError:
                raise Closed(1006, reset=True) from None
            if not alive:
                raise Closed(1006)
        return found

    def receive(self, timeout: float | None = None) -> Message:
        """Read one message; pings are answered meanwhile, unless ``answers_pings`` is off.

        Args:
            timeout: in seconds; None for the usual one.

        Raises:
            Closed: a close frame came (it is not answered), or TCP has ended.
            TimeoutError: nothing came in time.
        """
        usual = self.tcp.gettimeout()
        if timeout is not None:
            self.tcp.settimeout(timeout)
        try:
            return self._receive()
        finally:
            self.tcp.settimeout(usual)

    def expect(self, kind: str, **fields: object) -> Message:
        """Skip messages until one of this type, with these fields, comes."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            message = self.receive()
            if message["type"] == kind and all(message.get(name) == value for name, value in fields.items()):
                return message
        raise TimeoutError(f"no {kind} with {fields} within {PATIENCE:g} s; the last messages: {self.seen[-5:]}")

    def ask(self, message: Message, kind: str) -> Message:
        """Send a message and wait for the answer with its ``id``."""
        self.send(message)
        return self.expect(kind, id=message["id"])

    def round_trip(self) -> float:
        """Have a ``ping`` answered: all that the server had sent before is then in ``seen``. Returns the seconds."""
        begin = time.monotonic()
        self.ask({"type": "ping", "id": f"p{begin}"}, "pong")
        return time.monotonic() - begin

    def closed(self, timeout: float = PATIENCE) -> Closed:
        """Skip everything until the end, and say what it was."""
        end = time.monotonic() + timeout
        while True:
            try:
                self.receive(max(0.01, end - time.monotonic()))
            except Closed as end_of_it:
                return end_of_it

    def eof(self, timeout: float = PATIENCE) -> bool:
        """Wait for the end of TCP; False if it does not come in time."""
        self.tcp.settimeout(timeout)
        end = time.monotonic() + timeout
        try:
            while time.monotonic() < end:
                if not self._more():
                    return True
        except ConnectionError:
            return True
        except TimeoutError:
            pass
        return False

    def _receive(self) -> Message:
        while True:
            frame = self.next_frame()
            if frame.opcode == PING:
                self.pings += 1
                if self.answers_pings:
                    self.frame(PONG, frame.payload)
            elif frame.opcode == CLOSE:
                code = struct.unpack("!H", frame.payload[:2])[0] if frame.payload else 1005
                raise Closed(code, frame.payload[2:].decode())
            elif frame.opcode in (TEXT, CONTINUATION):
                self._partial += frame.payload
                if frame.fin:
                    message: Message = json.loads(bytes(self._partial))
                    self._partial = bytearray()
                    self.seen.append(message)
                    return message

    def _parse(self) -> Frame | None:
        have = self._buffer
        if len(have) < 2:
            return None
        assert not have[1] & 0x80, "the server's frames are not masked"
        size, start = have[1] & 0x7F, 2
        if size == 126:
            size, start = (struct.unpack_from("!H", have, 2)[0], 4) if len(have) >= 4 else (1 << 62, 4)
        elif size == 127:
            size, start = (struct.unpack_from("!Q", have, 2)[0], 10) if len(have) >= 10 else (1 << 62, 10)
        if len(have) < start + size:
            return None
        frame = Frame(have[0] & 0x0F, bytes(have[start : start + size]), bool(have[0] & 0x80))
        del have[: start + size]
        return frame

    def _more(self) -> bool:
        """Read what is there; False at the end of TCP."""
        chunk = self.tcp.recv(1 << 16)
        self._buffer += chunk
        return bool(chunk)


def main() -> None:
    """``python -m tests.acceptance.raw URL TAB``, with the token on the standard input."""
    url, tab = sys.argv[1:3]
    with Raw.open(url, sys.stdin.readline().strip(), tab=tab) as client:
        sys.stdout.write("open\n")
        sys.stdout.flush()
        client.tcp.settimeout(600)
        client.closed(600)


if __name__ == "__main__":
    main()
