"""WebSockets on picows, behind uvicorn's ``ws`` class hook.

picows parses and writes frames; :mod:`stillhere.transport.message_layer` makes messages of them and
:mod:`stillhere.transport.handshake` has authenticated the client before any of this exists. A connection costs no
task, no timer and no logger.

The end of a connection. Once both close frames have passed, the server ends its half of TCP and waits for the client
to end the other: only then is the connection lost. A client that never does so stays CLOSING until the endpoint's
``abort``. What such a client still sends is dropped unread by :class:`_Lingering`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from http import HTTPStatus
from typing import Any, cast

import msgspec
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeResponse
from picows import WSUpgradeResponseWithListener as Answer

# Not exported: pyproject.toml pins the minor release, and tests/unit/transport/test_picows.py holds the rest.
from picows.picows import WSProtocol  # type: ignore[attr-defined]
from uvicorn.config import Config
from uvicorn.server import ServerState

from stillhere.server.socket import Endpoint, Gate, Welcome
from stillhere.transport.bounds import HIGH_WATER, LOW_WATER, MAX_MESSAGE_BYTES
from stillhere.transport.handshake import VERDICT_TIMEOUT, Handshake
from stillhere.transport.message_layer import (
    BINARY,
    CLOSE,
    INTERNAL_ERROR,
    NO_STATUS,
    NORMAL,
    PING,
    PROTOCOL_ERROR,
    TEXT,
    MessageLayer,
    Violation,
    read_close,
    short_reason,
)

READ_CHUNK = 16384
"""Most bytes taken from a socket at once. picows doubles its buffer whenever a read fills it and never halves it, so
that a flood would otherwise leave megabytes behind for the life of the connection."""

DISCARD_BYTES = 262144
"""What a peer may still send after the end of the conversation before it is cut off."""

SERVICE_RESTART = 1012

_log = logging.getLogger("stillhere.transport")
_SEND_TEXT = cast(WSMsgType, TEXT)
_SEND_BINARY = cast(WSMsgType, BINARY)

_OPEN = 0
_CLOSE_SENT = 1  # our close frame is out, the peer's is awaited
_ENDED = 2  # nothing more is read or sent


class _Quiet:
    """What picows takes for a logger: it says what broke inside picows, and nothing of a peer's faults.

    With a ``logging.Logger``, picows makes a child of it for each connection.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name that picows calls
        return False

    def debug(self, message: str, *args: object) -> None: ...

    info = warning = error = debug

    def exception(self, message: str, *args: object) -> None:
        _log.error(message, *args, exc_info=True)


_QUIET = _Quiet()
_NO_HEADERS: Any = {}


class Settings(msgspec.Struct, frozen=True):
    """What all connections of one server share."""

    gate: Gate
    path: str
    max_message_bytes: int
    read_buffer: int
    high_water: int
    low_water: int


class PicowsSocket(WSListener):
    """One WebSocket: the endpoint's :class:`~stillhere.server.socket.Socket`, and picows' listener."""

    __slots__ = ("_after_close", "_endpoint", "_high_water", "_layer", "_phase", "_protocol", "_tcp", "_ws")

    _ws: WSTransport

    def __init__(
        self, endpoint: Endpoint, protocol: PicowsProtocol, tcp: asyncio.Transport, settings: Settings
    ) -> None:
        self._endpoint = endpoint
        self._protocol = protocol
        self._tcp = tcp
        self._layer = MessageLayer(settings.max_message_bytes)
        self._high_water = settings.high_water
        self._phase = _OPEN
        self._after_close = 0

    # What the endpoint calls

    def send(self, frame: bytes) -> None:
        if self._phase == _OPEN:
            self._ws.send(_SEND_TEXT, frame)

    def send_binary(self, message: bytes) -> None:
        if self._phase == _OPEN:
            self._ws.send(_SEND_BINARY, message)

    def ping(self) -> bool:
        if self._phase == _OPEN:
            self._ws.send_ping()
        return True

    def close(self, code: int, reason: str = "") -> None:
        if self._phase == _OPEN:
            self._phase = _CLOSE_SENT
            self._ws.send_close(cast(WSCloseCode, code), short_reason(reason))

    def abort(self) -> None:
        self._phase = _ENDED
        self._tcp.abort()

    def unsent(self) -> int:
        return self._tcp.get_write_buffer_size()

    # What picows calls

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._ws = transport
        try:
            self._endpoint.on_open(self)
        except Exception:
            self._failed()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._phase == _ENDED:
            return
        opcode = cast(int, frame.msg_type)
        if self._phase == _CLOSE_SENT:
            if opcode == CLOSE:
                self._closed(frame)
            return
        try:
            if frame.rsv1 or frame.rsv2 or frame.rsv3:
                raise Violation(PROTOCOL_ERROR, "reserved bits without an extension that was agreed on")
            if opcode < CLOSE:
                message = self._layer.data(opcode, frame.fin, frame.get_payload_as_bytes())
                if message is None:
                    return
                if isinstance(message, bytes):
                    self._endpoint.on_text(message)
                else:
                    self._endpoint.on_binary(bytes(message))
            elif opcode == CLOSE:
                self._closed(frame)
            else:
                self._heard(opcode, frame)
        except Violation as violation:
            self.broken(violation.code, violation.reason)
        except Exception:
            self._failed()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Without the error; :meth:`PicowsProtocol.connection_lost` has it."""

    def pause_writing(self) -> None:
        if self._phase == _OPEN:
            self._endpoint.on_full()

    def resume_writing(self) -> None:
        if self._phase == _OPEN:
            self._endpoint.on_writable()

    # What the protocol calls

    def watch(self, received: int) -> None:
        """Look at what picows did with ``received`` bytes beyond calling us."""
        if self._phase == _OPEN:
            # picows answers a malformed frame by itself, and tells nobody.
            if self._ws.is_close_frame_sent:
                sent = self._ws.close_handshake.sent
                assert sent is not None
                self.broken(int(cast(int, sent.code)), sent.reason)
        elif self._phase == _CLOSE_SENT:
            self._after_close += received
            if self._after_close > DISCARD_BYTES:
                self.abort()

    def broken(self, code: int, reason: str) -> None:
        """End a conversation whose rules the peer broke."""
        self._ws.send_close(cast(WSCloseCode, code), short_reason(reason))
        self._end()
        self._endpoint.on_violation(code, reason)

    def lost(self, exc: Exception | None) -> None:
        """TCP has ended."""
        self._phase = _ENDED
        endpoint = self._endpoint
        # We and the protocol hold each other. Unbroken, that kept some twenty objects of every connection until Python
        # looked for cycles among all of them, which is rare, and stands everybody still for seconds where many are.
        del self._endpoint, self._protocol
        endpoint.on_lost(exc)

    # Inside

    def _heard(self, opcode: int, frame: WSFrame) -> None:
        # A peer that pings without reading the pongs gets none above the mark: RFC 6455 section 5.5.3 asks for the
        # latest only, and they would pile up here.
        if opcode == PING and self._tcp.get_write_buffer_size() < self._high_water:
            self._ws.send_pong(frame.get_payload_as_bytes())
        self._endpoint.on_heard()

    def _closed(self, frame: WSFrame) -> None:
        try:
            code, reason = read_close(frame.get_payload_as_bytes())
        except Violation as violation:
            self.broken(violation.code, violation.reason)
            return
        self._ws.send_close(cast(WSCloseCode, NORMAL if code == NO_STATUS else code))
        self._end()
        self._endpoint.on_close_frame(code, reason)

    def _end(self) -> None:
        self._phase = _ENDED
        self._protocol.linger()

    def _failed(self) -> None:
        _log.error("an endpoint failed; its connection is closed with 1011", exc_info=True)
        self.close(INTERNAL_ERROR, "internal error")


@functools.cache
def _switching(subprotocol: str | None) -> WSUpgradeResponse:
    """The 101, one object for all connections: picows keeps it, and writes the one header that differs each time."""
    headers = {"Sec-WebSocket-Protocol": subprotocol} if subprotocol else None
    return cast(WSUpgradeResponse, WSUpgradeResponse.create_101_response(headers))


class PicowsProtocol(WSProtocol):  # type: ignore[misc]  # see the import
    """picows' protocol for one connection that has been welcomed."""

    __slots__ = ("_socket", "_state", "_tcp")

    listener: PicowsSocket
    transport: WSTransport | None  # none before connection_made

    def __init__(self, server_state: ServerState, settings: Settings, tcp: asyncio.Transport, welcome: Welcome) -> None:
        self._state = server_state
        self._tcp = tcp
        self._socket = PicowsSocket(welcome.endpoint, self, tcp, settings)
        answer = _switching(welcome.subprotocol)
        listener = self._socket
        super().__init__(
            None,  # host and path: a client's
            None,
            False,  # is_client_side
            lambda _request: Answer(answer, listener),  # without self: picows keeps it
            _QUIET,
            True,  # disconnect_on_exception
            None,  # no handshake time-out: the handshake is over, and it would be a timer
            False,  # no pings by picows, which would be a task
            20,
            20,
            1,
            False,  # no pongs by picows, which would hide the pings from us
            settings.max_message_bytes,
            None,  # extra headers
            settings.read_buffer,
        )

    def begin(self, key: str) -> None:
        """Write the 101 and tell the endpoint.

        picows wants a request to answer. It gets the shortest one: it keeps what it gets, and the real one holds the
        token.
        """
        head = (
            "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n"
        ).encode()
        self.get_buffer(-1)[: len(head)] = head
        super().buffer_updated(len(head))
        if self.transport is not None and self.transport.request is not None:
            self.transport.request.headers = _NO_HEADERS  # picows keeps the request: a kilobyte that nobody reads
        assert self.transport is not None and self.transport.response.status == HTTPStatus.SWITCHING_PROTOCOLS

    def linger(self) -> None:
        """End our half of TCP and wait for the peer to end the other, reading nothing."""
        if self._tcp.is_closing():
            return
        self._tcp.set_protocol(_Lingering(self._tcp, self))
        try:
            if self._tcp.can_write_eof():
                self._tcp.write_eof()
                return
        except OSError:  # the peer is gone already: ENOTCONN
            pass
        self._tcp.close()  # TLS has no half-closed state

    # What the event loop and uvicorn call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.add(self)
        super().connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        buffer: memoryview = super().get_buffer(sizehint)
        return buffer if len(buffer) <= READ_CHUNK else buffer[:READ_CHUNK]

    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        self._socket.watch(nbytes)

    def eof_received(self) -> bool:
        """The peer left without a close frame: no WebSocket client ends its half and still reads the other."""
        if self._tcp.get_write_buffer_size():
            self._tcp.abort()  # close() would wait until somebody took what is unsent
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self.transport is not None:
            super().connection_lost(exc)
        self._socket.lost(exc)

    def shutdown(self) -> None:
        """uvicorn stops, and does not wait for anybody's close frame."""
        self._socket.close(SERVICE_RESTART, "the server is shutting down")
        self._tcp.close()

    @property
    def _connections(self) -> set[Any]:
        return self._state.connections


class _Lingering(asyncio.Protocol):
    """Takes the place of :class:`PicowsProtocol` once nothing more is to be said."""

    __slots__ = ("_after", "_left", "_tcp")

    def __init__(self, tcp: asyncio.Transport, after: PicowsProtocol) -> None:
        self._tcp = tcp
        self._after = after
        self._left = DISCARD_BYTES

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._tcp.abort()

    def eof_received(self) -> None:
        if self._tcp.get_write_buffer_size():
            self._tcp.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._after.connection_lost(exc)


def picows_protocol(
    gate: Gate,
    *,
    path: str = "/ws",
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    read_buffer: int = 2048,
    high_water: int = HIGH_WATER,
    low_water: int = LOW_WATER,
    verdict_timeout: float = VERDICT_TIMEOUT,
) -> type[asyncio.Protocol]:
    """Make the class to give to uvicorn as ``ws``.

    Args:
        gate: decides about every upgrade.
        path: where WebSockets are served; elsewhere an upgrade gets 404.
        max_message_bytes: bound of a message; above it 1009.
        read_buffer: bytes of read buffer that a connection starts with; picows takes no less than 2048.
        high_water: unsent bytes above which ``on_full`` is called.
        low_water: and below which then ``on_writable`` is.
        verdict_timeout: how long the gate may think, in seconds.
    """
    settings = Settings(gate, path, max_message_bytes, read_buffer, high_water, low_water)

    class Upgrade(Handshake):
        __slots__ = ()

        def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
            super().__init__(server_state, gate, path, verdict_timeout)

        def open(self, welcome: Welcome, key: str) -> None:
            tcp = self.transport
            # Explicit marks: uvloop's own low one is 16 bytes.
            tcp.set_write_buffer_limits(high_water, low_water)
            protocol = PicowsProtocol(self._state, settings, tcp, welcome)
            tcp.set_protocol(protocol)  # first: whatever fails from here on, the endpoint is told of the loss
            try:
                protocol.connection_made(tcp)  # sets TCP_NODELAY
                protocol.begin(key)
            except Exception:
                _log.exception("a connection could not be opened")
                tcp.abort()

    return Upgrade
