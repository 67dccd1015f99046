"""Real servers and raw clients for the transport tests: nothing is simulated but the node behind the gate."""

from __future__ import annotations

import base64
import os
import queue
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from stillhere.server.socket import Gate, Socket, UpgradeRequest, Verdict, Welcome
from stillhere.transport.message_layer import CLOSE, TEXT
from stillhere.transport.serve import Server, build_server

PATIENCE = 5.0
"""How long a test waits for what must happen, in seconds."""

LIMIT = 32768
HIGH = 100000
LOW = 20000
"""Message bound and marks of a party's server."""

LINGER_OFF = struct.pack("ii", 1, 0)


class Recorder:
    """An endpoint that keeps what it is told, in order, for the test's thread.

    Args:
        reaction: called on the event loop with each event; may use the socket.
    """

    def __init__(self, reaction: Callable[[Recorder, tuple[Any, ...]], None] | None = None) -> None:
        self.events: queue.Queue[tuple[Any, ...]] = queue.Queue()
        self.history: list[tuple[Any, ...]] = []
        self.socket: Socket | None = None
        self._reaction = reaction

    def _tell(self, *event: Any) -> None:
        self.history.append(event)
        self.events.put(event)
        if self._reaction is not None:
            self._reaction(self, event)

    def on_open(self, socket: Socket) -> None:
        self.socket = socket
        self._tell("open")

    def on_text(self, message: bytes) -> None:
        self._tell("text", message)

    def on_binary(self, message: bytes) -> None:
        self._tell("binary", message)

    def on_heard(self) -> None:
        self._tell("heard")

    def on_close_frame(self, code: int, reason: str) -> None:
        self._tell("close_frame", code, reason)

    def on_violation(self, code: int, reason: str) -> None:
        self._tell("violation", code, reason)

    def on_lost(self, error: BaseException | None) -> None:
        self._tell("lost", error)

    def on_full(self) -> None:
        self._tell("full")

    def on_writable(self) -> None:
        self._tell("writable")

    def next(self, patience: float = PATIENCE) -> tuple[Any, ...]:
        """The next event; fails if none comes."""
        return self.events.get(timeout=patience)

    def expect(self, *expected: tuple[Any, ...]) -> None:
        """The next events are exactly these."""
        for event in expected:
            assert self.next() == event

    def silent(self, seconds: float = 0.2) -> bool:
        """Whether nothing is told for a while."""
        try:
            self.events.get(timeout=seconds)
        except queue.Empty:
            return True
        return False


class OpenGate:
    """Welcomes everybody to an endpoint of its making.

    Args:
        make: makes the endpoint of a connection.
    """

    def __init__(self, make: Callable[[], Recorder] = Recorder) -> None:
        self.requests: list[UpgradeRequest] = []
        self.endpoints: queue.Queue[Recorder] = queue.Queue()
        self._make = make

    def greet(self, request: UpgradeRequest) -> Verdict | Awaitable[Verdict]:
        self.requests.append(request)
        endpoint = self._make()
        self.endpoints.put(endpoint)
        offered = request.headers.get("sec-websocket-protocol", "")
        return Welcome(endpoint, "stillhere.v1" if "stillhere.v1" in offered else None)

    def endpoint(self) -> Recorder:
        """The next one that was made."""
        return self.endpoints.get(timeout=PATIENCE)


class FunctionGate:
    """A gate that is one function."""

    def __init__(self, greet: Callable[[UpgradeRequest], Verdict | Awaitable[Verdict]]) -> None:
        self.greet = greet


class Running:
    """A server that runs, and its loop."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port: int = server.port

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call on the event loop and give the result."""
        done: queue.Queue[Any] = queue.Queue()
        loop = self.server._loop
        assert loop is not None
        loop.call_soon_threadsafe(lambda: done.put(function(*args)))
        return done.get(timeout=PATIENCE)


def _hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def _echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


APP = Starlette(routes=[Route("/", _hello), Route("/echo", _echo, methods=["POST"])])


@contextmanager
def running(
    gate: Gate,
    websocket: Literal["native", "asgi"] = "native",
    loop: Literal["uvloop", "asyncio"] = "uvloop",
    **settings: Any,
) -> Iterator[Running]:
    """A server on a free loopback port, in a thread of its own."""
    settings.setdefault("stop_timeout", 1)
    server = build_server(APP, gate, port=0, websocket=websocket, loop=loop, **settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.005)
    assert server.started
    try:
        yield Running(server)
    finally:
        server.stop()
        thread.join(PATIENCE + 5)
        assert not thread.is_alive()


class RawClient:
    """A WebSocket client that can break every rule.

    Args:
        port: of the server.
        receive_buffer: of the kernel, in bytes; a small one makes a slow consumer sooner.
    """

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(PATIENCE)
        if receive_buffer is not None:
            # Before the connection: a window that shrinks later makes the kernel drop segments, acknowledgements too.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect(("127.0.0.1", port))
        self._read = b""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def head(self, target: str = "/ws", *headers: str, **replaced: str | None) -> bytes:
        """An upgrade request. ``replaced`` changes a header, or leaves it out with None."""
        fields: dict[str, str | None] = {
            "Host": "localhost",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        }
        fields.update({name.replace("_", "-"): value for name, value in replaced.items()})
        lines = [f"GET {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
        return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1")

    def request(self, target: str = "/ws", *headers: str, **replaced: str | None) -> tuple[int, dict[str, str], bytes]:
        """Ask for the upgrade; give status, headers (lower-case names) and body."""
        self.sock.sendall(self.head(target, *headers, **replaced))
        return self.answer()

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = self._until(b"\r\n\r\n").decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", "0"))
        return int(first.split()[1]), headers, self._take(size)

    def open(self, target: str = "/ws", *headers: str, **replaced: str | None) -> RawClient:
        status, answered, body = self.request(target, *headers, **replaced)
        assert status == 101, (status, answered, body)
        return self

    def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True) -> None:
        self.sock.sendall(frame(opcode, payload, fin=fin, rsv=rsv, mask=mask))

    def text(self, message: str) -> None:
        self.send(TEXT, message.encode())

    def close_frame(self, code: int = 1000, reason: str = "") -> None:
        self.send(CLOSE, code.to_bytes(2) + reason.encode())

    def receive(self) -> tuple[int, bytes]:
        """The next frame's opcode and payload."""
        first, second = self._take(2)
        size = second & 127
        if size == 126:
            size = int.from_bytes(self._take(2))
        elif size == 127:
            size = int.from_bytes(self._take(8))
        return first & 15, self._take(size)

    def received_close(self) -> int:
        """Skip to the server's close frame; give its code."""
        while True:
            opcode, payload = self.receive()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2])

    def at_end(self) -> bool:
        """Whether the server has ended its half, with nothing more to read."""
        return self._read == b"" and self.sock.recv(1) == b""

    def reset(self) -> None:
        """End with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
        self.sock.close()

    def _take(self, size: int) -> bytes:
        while len(self._read) < size:
            self._more()
        taken, self._read = self._read[:size], self._read[size:]
        return taken

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._read:
            self._more()
        return self._take(self._read.index(mark) + len(mark))

    def _more(self) -> None:
        got = self.sock.recv(65536)
        if not got:
            raise EOFError("the server ended the connection")
        self._read += got


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True) -> bytes:
    """One frame as a client sends it; the masking key is zero, so that the payload stays readable."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head = bytes([first, bit | len(payload)])
    elif len(payload) < 65536:
        head = bytes([first, bit | 126]) + len(payload).to_bytes(2)
    else:
        head = bytes([first, bit | 127]) + len(payload).to_bytes(8)
    return head + (b"\0\0\0\0" if mask else b"") + payload


class Party:
    """A server with an open gate."""

    def __init__(self, websocket: str, gate: OpenGate, server: Running) -> None:
        self.websocket = websocket
        self.gate = gate
        self.server = server

    def connect(self, receive_buffer: int | None = None) -> tuple[RawClient, Recorder]:
        """A client, and its endpoint after ``on_open``."""
        client = RawClient(self.server.port, receive_buffer).open()
        endpoint = self.gate.endpoint()
        endpoint.expect(("open",))
        return client, endpoint

    def tell(self, endpoint: Recorder, call: str, *args: Any) -> Any:
        """Call the endpoint's socket, on the event loop."""
        return self.server.call(getattr(endpoint.socket, call), *args)

    def clog(self, endpoint: Recorder, message: bytes, unsent: int) -> int:
        """Send to a peer that does not read until this much is unsent; give how often."""
        for sent in range(2000):
            if self.tell(endpoint, "unsent") >= unsent:
                return sent
            self.tell(endpoint, "send", message)
        raise AssertionError("the peer takes everything")
