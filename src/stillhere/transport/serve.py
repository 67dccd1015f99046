"""One process, one port: WebSockets at one path, the HTTP application everywhere else."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from types import FrameType
from typing import Any, Literal

import uvicorn

from stillhere.server.socket import Gate
from stillhere.transport.arrival import native_protocols
from stillhere.transport.asgi import AsgiWebSocket, Receive, Scope, Send
from stillhere.transport.bounds import HIGH_WATER, LOW_WATER, MAX_MESSAGE_BYTES
from stillhere.transport.handshake import VERDICT_TIMEOUT
from stillhere.transport.http import HANDSHAKE_TIMEOUT, http_protocol
from stillhere.transport.sansio import SansIo

App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
OnStop = Callable[[], Awaitable[None]]

BACKLOG = 4096

HANDLES = 8
"""How often the event loop waits at the listening socket.

libuv accepts one connection per turn and handle (asyncio's own loop accepts all that wait). With turns of some
milliseconds one handle would let in a few hundred a second, and a crowd that comes back would wait in the kernel's
queue until it overflows, for longer than a window.
"""

STOP_TIMEOUT = 5
"""How long HTTP requests that are under way may take to end after the drain, in seconds."""

_log = logging.getLogger("stillhere.transport")


class CannotListen(Exception):
    """The address cannot be listened on.

    Args:
        host: as configured.
        port: as configured.
        why: the operating system's words.
    """

    def __init__(self, host: str, port: int, why: str) -> None:
        super().__init__(f"cannot listen on {host}:{port}: {why}")
        self.host = host
        self.port = port


class PortInUse(CannotListen):
    """Another process listens on the port already."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port, "the port is in use; stop the other process or choose another port")


def listen(host: str, port: int, backlog: int = BACKLOG, *, shared: bool = False) -> socket.socket:
    """Open the listening socket.

    Args:
        host: name or address; of several addresses, the first.
        port: 0 for any free one.
        backlog: how many connections the kernel keeps for us.
        shared: with other processes of this user, among which the kernel deals new connections out.

    Raises:
        PortInUse: somebody listens there.
        CannotListen: the address is not one of this machine, or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotListen(host, port, error.strerror or str(error)) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        # With SO_REUSEADDR two processes can bind the same port, and only one of them can listen.
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(host, port) from error
        raise CannotListen(host, port, error.strerror or str(error)) from error
    listener.setblocking(False)
    return listener


class Server(uvicorn.Server):
    """uvicorn, with a drain before its stop.

    The first SIGTERM or SIGINT runs ``on_stop`` while everything is still served; then uvicorn stops, and :meth:`run`
    returns, so that the exit status is 0. A second signal forces: the process ends by that signal.

    Args:
        config: uvicorn's.
        listener: already listening.
        on_stop: the drain.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket, on_stop: OnStop | None) -> None:
        super().__init__(config)
        self._listener = listener
        self._on_stop = on_stop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self.supervised = False
        """Whether SIGTERM may come from a parent and from a service manager: the same word twice; SIGINT forces."""
        self._drain: asyncio.Task[None] | None = None
        # Known here, because the socket is closed when it is asked for in a log line of the end.
        self.host, self.port = listener.getsockname()[:2]

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        more = [] if isinstance(self._loop, asyncio.BaseEventLoop) else range(HANDLES - 1)
        await super().serve(sockets or [self._listener, *(self._listener.dup() for _ in more)])
        if self._drain is not None and self._drain.done() and not self._drain.cancelled():
            self._drain.result()  # a drain that failed is an error of the process

    @property
    def interrupted(self) -> bool:
        """Whether a second SIGINT has forced the end."""
        return signal.SIGINT in self._captured_signals

    def stop(self) -> None:
        """Begin the stop, as the first signal does. May be called from any thread, and more than once."""
        if self._loop is None:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._begin)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        again = self._stopping and not (self.supervised and sig == signal.SIGTERM)
        if not again and sig in (signal.SIGTERM, signal.SIGINT):
            # Not kept in _captured_signals: uvicorn would raise it again at the end, and the exit status tell of it.
            self._stopping = True
            self.stop()
        else:
            self._captured_signals.append(sig)
            self.should_exit = self.force_exit = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._force)

    def _begin(self) -> None:
        self._stopping = True
        if self._drain is None:
            self._drain = asyncio.get_running_loop().create_task(self._stop())

    def _force(self) -> None:
        if self._drain is not None:
            self._drain.cancel()

    async def _stop(self) -> None:
        try:
            if self._on_stop is not None:
                await self._on_stop()
        except Exception:
            _log.exception("the drain failed; the server stops without it")
            raise
        finally:
            self.should_exit = True


def build_server(
    app: App,
    gate: Gate,
    *,
    host: str = "127.0.0.1",
    port: int = 7400,
    fd: int | None = None,
    sock: socket.socket | None = None,
    websocket: Literal["native", "asgi"] = "native",
    path: str = "/ws",
    loop: Literal["auto", "uvloop", "asyncio"] = "auto",
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    verdict_timeout: float = VERDICT_TIMEOUT,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    heartbeat_interval: float = 20.0,
    heartbeat_timeout: float = 10.0,
    high_water: int = HIGH_WATER,
    low_water: int = LOW_WATER,
    stop_timeout: int = STOP_TIMEOUT,
    on_stop: OnStop | None = None,
) -> Server:
    """Put a server together; its socket listens when this returns, and ``run()`` or ``serve()`` accepts.

    Args:
        app: the ASGI application that answers HTTP; its lifespan is honoured.
        gate: decides about every upgrade.
        host: name or address to listen on.
        port: 0 for any free one; ``Server.port`` tells.
        fd: an inherited descriptor of a listening TCP socket, in place of host and port.
        sock: a listening TCP socket, in place of host and port.
        websocket: the native one, or uvicorn's own implementation through ASGI.
        path: where WebSockets are served.
        loop: which event loop ``run()`` makes; auto takes uvloop where it is installed.
        handshake_timeout: how long the head of a request may take, in seconds.
        verdict_timeout: how long the gate may think, in seconds.
        max_message_bytes: bound of a WebSocket message.
        heartbeat_interval: between pings, in seconds. Only for ``asgi``: else the endpoints send them.
        heartbeat_timeout: for the answer to a ping, in seconds. Only for ``asgi``.
        high_water: unsent bytes of a connection above which its endpoint's ``on_full`` is called.
        low_water: and below which then ``on_writable`` is.
        stop_timeout: how long HTTP requests may take to end after the drain, in seconds.
        on_stop: what the first signal runs before anything is closed.

    Raises:
        PortInUse: somebody listens there.
        CannotListen: the address is not one of this machine, or not allowed.
    """
    if fd is not None:
        sock = socket.socket(fileno=fd)
    listener = sock or listen(host, port)
    common: dict[str, Any] = {
        "max_message_bytes": max_message_bytes,
        "high_water": high_water,
        "low_water": low_water,
        "verdict_timeout": verdict_timeout,
    }
    http: Any = http_protocol(handshake_timeout)
    ws: Any = SansIo
    if websocket == "native":
        http, ws = native_protocols(gate, http, path=path, **common)
    config = uvicorn.Config(
        app if websocket == "native" else Dispatch(app, AsgiWebSocket(gate, **common), path),
        loop=loop,
        http=http,
        ws=ws,
        ws_max_size=max_message_bytes,
        ws_ping_interval=heartbeat_interval,
        ws_ping_timeout=heartbeat_timeout,
        ws_per_message_deflate=False,  # costs more than small messages save, and is an attack surface
        log_config=None,
        log_level="warning",  # at "info" uvicorn writes the query of every WebSocket, and it may hold a token
        access_log=False,  # as above
        proxy_headers=False,  # the gate sees the real peer, whichever transport
        server_header=False,
        timeout_graceful_shutdown=stop_timeout,
        backlog=BACKLOG,
    )
    return Server(config, listener, on_stop)


class Dispatch:
    """An ASGI application of two: WebSockets at one path, everything else."""

    def __init__(self, app: App, websockets: AsgiWebSocket, path: str) -> None:
        self._app = app
        self._websockets = websockets
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
        elif scope["path"] == self._path:
            await self._websockets(scope, receive, send)
        else:
            await self._websockets.refuse(scope, receive, send, 404, f"WebSockets are served at {self._path} only.")
