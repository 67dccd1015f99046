"""WebSockets on picows.

picows parses and writes frames; :mod:`stillhere.transport.message_layer` makes messages of them, and
:mod:`stillhere.transport.arrival` has had the client authenticated before any of this is used. A connection costs no
task, no timer and no logger.

The end of a connection. Once both close frames have passed, the server ends its half of TCP and waits for the client
to end the other: only then is the connection lost. A client that never does so stays CLOSING until the endpoint's
``abort``. What such a client still sends is dropped unread by :class:`_Lingering`.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any, cast

import msgspec
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport
from picows import WSUpgradeResponseWithListener as Answer

# Not exported: pyproject.toml pins the minor release, and tests/unit/transport/test_picows.py holds the rest.
from picows.picows import WSProtocol  # type: ignore[attr-defined]
from uvicorn.server import ServerState

from stillhere.server.socket import Endpoint, Welcome
from stillhere.transport.engine import QUIET, REQUEST, Underneath, asked, forget, switching
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


class Settings(msgspec.Struct, frozen=True):
    """What all connections of one server share."""

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
        self._endpoint.on_lost(exc)

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


class PicowsProtocol(WSProtocol):  # type: ignore[misc]  # see the import
    """picows' protocol for one connection that has been welcomed."""

    __slots__ = ("_socket", "_state", "_tcp")

    listener: PicowsSocket
    transport: WSTransport | None  # none before welcome

    def __init__(self, server_state: ServerState) -> None:
        self._state = server_state

    def welcome(self, tcp: asyncio.Transport, settings: Settings, welcome: Welcome, key: str) -> None:
        """Write the 101 and tell the endpoint. Whatever fails, the endpoint is told of the loss.

        Args:
            tcp: its protocol is this one already.
            settings: the server's.
            welcome: the gate's verdict.
            key: the client's ``Sec-WebSocket-Key``.
        """
        # Explicit marks: uvloop's own low one is 16 bytes.
        tcp.set_write_buffer_limits(settings.high_water, settings.low_water)
        self._tcp = tcp
        self._socket = listener = PicowsSocket(welcome.endpoint, self, tcp, settings)
        self._connections.add(self)
        answer = switching(welcome.subprotocol)
        try:
            super().__init__(
                None,  # host and path: a client's
                None,
                False,  # is_client_side
                lambda request: Answer(asked(request, key, answer), listener),  # without self: picows keeps it
                QUIET,
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
            super().connection_made(Underneath(tcp))
            # picows wants a request to answer. It gets the shortest one: it keeps what it gets.
            super().get_buffer(-1)[: len(REQUEST)] = REQUEST
            super().buffer_updated(len(REQUEST))
            assert self.transport is not None and self.transport.response.status == HTTPStatus.SWITCHING_PROTOCOLS
            forget(self.transport.request)
        except Exception:
            _log.exception("a connection could not be opened")
            tcp.abort()

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
        """Not called: uvicorn's protocol had the connection before."""

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
