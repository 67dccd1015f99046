"""WebSockets straight on TCP.

:mod:`stillhere.transport.arrival` has had the client authenticated before any of this is used,
:mod:`stillhere.transport.frames` takes frames apart, and :mod:`stillhere.transport.message_layer` makes messages of
them. A connection is one object: no task, no timer, no logger and no buffer, since what was read is looked at in the
same call, and only the beginning of a frame that has not come whole is kept.

The end of a connection. Once both close frames have passed, the server ends its half of TCP and waits for the client
to end the other: only then is the connection lost. A client that never does so stays CLOSING until the endpoint's
``abort``. What such a client still sends is dropped unread.
"""

from __future__ import annotations

import asyncio
import logging
import os
from base64 import b64encode
from hashlib import sha1
from typing import Any

import msgspec
from uvicorn.server import ServerState

from stillhere.server.socket import Endpoint, Welcome
from stillhere.transport.frames import FIN, OPCODE, Reader, framed
from stillhere.transport.message_layer import (
    BINARY,
    CLOSE,
    INTERNAL_ERROR,
    NO_STATUS,
    NORMAL,
    PING,
    PONG,
    TEXT,
    MessageLayer,
    Violation,
    decode_text,
    read_close,
    short_reason,
)

DISCARD_BYTES = 262144
"""What a peer may still send after the end of the conversation before it is cut off."""

SERVICE_RESTART = 1012

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_WHOLE_TEXT = FIN | TEXT

_log = logging.getLogger("stillhere.transport")

_OPEN = 0
_CLOSE_SENT = 1  # our close frame is out, the peer's is awaited
_ENDED = 2  # nothing more is read or sent


class Settings(msgspec.Struct, frozen=True):
    """What all connections of one server share."""

    max_message_bytes: int
    high_water: int
    low_water: int


class _Broadcast:
    """The last text frame that was sent: of a broadcast, all receivers get the same object."""

    __slots__ = ("frame", "message")

    def __init__(self) -> None:
        self.message, self.frame = b"", framed(TEXT, b"")

    def of(self, message: bytes) -> bytes:
        self.message, self.frame = message, framed(TEXT, message)
        return self.frame


_last = _Broadcast()
_write = os.write


class WebSocket(asyncio.Protocol):
    """One connection that has been welcomed: the event loop's protocol, and the endpoint's
    :class:`~stillhere.server.socket.Socket`."""

    __slots__ = (
        "_after_close",
        "_direct",
        "_endpoint",
        "_fd",
        "_layer",
        "_phase",
        "_reader",
        "_settings",
        "_state",
        "_tcp",
    )

    _settings: Settings
    _endpoint: Endpoint
    _tcp: asyncio.Transport
    _fd: int
    """The socket's number; -1 where it is not to be written to."""
    _direct: int
    """The same while the connection is open and nothing waits in the transport, else -1."""

    def __init__(self, server_state: ServerState) -> None:
        self._state = server_state
        self._reader: Reader | None = None
        self._layer: MessageLayer | None = None
        self._phase = _OPEN
        self._after_close = 0
        self._direct = -1

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
        self._settings = settings
        self._endpoint = welcome.endpoint
        self._connections.add(self)
        try:
            self._fd = descriptor(tcp)
            tcp.write(switching(welcome.subprotocol, key))
        except Exception:
            _log.exception("a connection could not be opened")
            tcp.abort()
            return
        try:
            welcome.endpoint.on_open(self)
        except Exception:
            self._failed()

    # What the endpoint calls

    def send(self, frame: bytes) -> None:
        whole = _last.frame if frame is _last.message else _last.of(frame)
        if self._direct >= 0:  # nearly always; a thousand receivers take this path one after the other
            try:
                sent = _write(self._direct, whole)
            except OSError:  # full, or broken: the transport finds out by itself
                sent = 0
            if sent < len(whole):
                self._queue(whole[sent:])
        elif self._phase == _OPEN:
            if self._fd >= 0 and not self._tcp.get_write_buffer_size():
                self._direct = self._fd
                self.send(frame)
            else:
                self._tcp.write(whole)

    def send_binary(self, message: bytes) -> None:
        if self._phase == _OPEN:
            self._queue(framed(BINARY, message))

    def ping(self) -> bool:
        if self._phase == _OPEN:
            self._queue(framed(PING, b""))
        return True

    def close(self, code: int, reason: str = "") -> None:
        if self._phase == _OPEN:
            self._phase = _CLOSE_SENT
            self._say_close(code, reason)

    def abort(self) -> None:
        self._phase, self._direct = _ENDED, -1
        self._tcp.abort()

    def unsent(self) -> int:
        return self._tcp.get_write_buffer_size()

    # What the event loop and uvicorn call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Not called: another protocol had the connection before."""

    def data_received(self, data: bytes) -> None:
        if self._phase != _OPEN:
            self._after_close += len(data)
            if self._after_close > DISCARD_BYTES:
                self.abort()
            if self._phase == _ENDED:
                return
        reader = self._reader or Reader(self._settings.max_message_bytes)
        try:
            for first, payload in reader.frames(data):
                self._take(first, payload)
                if self._phase == _ENDED:
                    self._reader = None
                    return
        except Violation as violation:
            self._broken(violation.code, violation.reason)
        except Exception:
            self._failed()
        self._reader = reader or None

    def eof_received(self) -> bool:
        """The peer left without a close frame: no WebSocket client ends its half and still reads the other."""
        if self._tcp.get_write_buffer_size():
            self._tcp.abort()  # close() would wait until somebody took what is unsent
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._phase, self._direct = _ENDED, -1
        endpoint = self._endpoint
        del self._endpoint  # it may hold this: what ends is gone at once, and not when Python looks for cycles
        endpoint.on_lost(exc)

    def pause_writing(self) -> None:
        if self._phase == _OPEN:
            self._endpoint.on_full()

    def resume_writing(self) -> None:
        if self._phase == _OPEN:
            self._endpoint.on_writable()

    def shutdown(self) -> None:
        """uvicorn stops, and does not wait for anybody's close frame."""
        self.close(SERVICE_RESTART, "the server is shutting down")
        self._tcp.close()

    # Inside

    @property
    def _connections(self) -> set[Any]:
        return self._state.connections

    def _queue(self, data: bytes) -> None:
        """Leave it to the transport; what is sent before that is empty waits behind it."""
        self._direct = -1
        self._tcp.write(data)

    def _say_close(self, code: int, reason: str = "") -> None:
        self._queue(framed(CLOSE, code.to_bytes(2) + short_reason(reason).encode()))

    def _take(self, first: int, payload: bytes) -> None:
        """A whole frame."""
        opcode = first & OPCODE
        if opcode == CLOSE:
            self._closed(payload)
        elif self._phase == _CLOSE_SENT:
            return
        elif opcode > CLOSE:
            self._heard(opcode, payload)
        elif first == _WHOLE_TEXT and self._layer is None:
            if not payload.isascii():  # cheaper than the throw-away str of a decode
                decode_text(payload)
            self._endpoint.on_text(payload)
        else:
            self._piece(opcode, first & FIN, payload)

    def _piece(self, opcode: int, fin: int, payload: bytes) -> None:
        layer = self._layer or MessageLayer(self._settings.max_message_bytes)
        message = layer.data(opcode, fin, payload)
        self._layer = layer if layer.unfinished else None
        if isinstance(message, bytes):
            self._endpoint.on_text(message)
        elif message is not None:
            self._endpoint.on_binary(bytes(message))

    def _heard(self, opcode: int, payload: bytes) -> None:
        # A peer that pings without reading the pongs gets none above the mark: RFC 6455 section 5.5.3 asks for the
        # latest only, and they would pile up here.
        if opcode == PING and self._tcp.get_write_buffer_size() < self._settings.high_water:
            self._queue(framed(PONG, payload))
        self._endpoint.on_heard()

    def _closed(self, payload: bytes) -> None:
        code, reason = read_close(payload)
        if self._phase == _OPEN:
            self._say_close(NORMAL if code == NO_STATUS else code)
        self._end()
        self._endpoint.on_close_frame(code, reason)

    def _broken(self, code: int, reason: str) -> None:
        """End a conversation whose rules the peer broke."""
        if self._phase == _OPEN:
            self._say_close(code, reason)
        self._end()
        self._endpoint.on_violation(code, reason)

    def _end(self) -> None:
        """End our half of TCP and wait for the peer to end the other, reading nothing."""
        self._phase, self._direct = _ENDED, -1
        self._after_close = 0
        tcp = self._tcp
        if tcp.is_closing():
            return
        try:
            if tcp.can_write_eof():
                tcp.write_eof()
                return
        except OSError:  # the peer is gone already: ENOTCONN
            pass
        tcp.close()  # TLS has no half-closed state

    def _failed(self) -> None:
        _log.error("an endpoint failed; its connection is closed with 1011", exc_info=True)
        self.close(INTERNAL_ERROR, "internal error")


def descriptor(tcp: asyncio.Transport) -> int:
    """The number of the socket where a frame may be written to it directly; -1 under TLS, and where that is no file."""
    if os.name != "posix" or tcp.get_extra_info("sslcontext") is not None:
        return -1
    sock = tcp.get_extra_info("socket")
    return -1 if sock is None else int(sock.fileno())


def switching(subprotocol: str | None, key: str) -> bytes:
    """The 101 (RFC 6455 section 4.2.2).

    Args:
        subprotocol: the one that is selected, if any.
        key: the client's ``Sec-WebSocket-Key``.
    """
    accept = b64encode(sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()
    selected = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        f"{selected}Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()
