"""uvicorn's HTTP/1.1 protocol, with bounds on the head of a request.

uvicorn bounds how long a connection may idle between requests, but not how long a head may take to arrive nor how long
it may become: one byte a second would hold a connection for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from stillhere.server.socket import Refusal
from stillhere.transport.head import MAX_HEAD_BYTES, MAX_HEADERS, encode_refusal, problem

HANDSHAKE_TIMEOUT = 5.0


class BoundedHttp(HttpToolsProtocol):
    """HTTP/1.1 whose request heads are bounded in time, bytes and number of headers. See :func:`http_protocol`."""

    handshake_timeout = HANDSHAKE_TIMEOUT

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_open = False
        self._head_bytes = 0
        self._refusal: Refusal | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_done()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_open:
            # The parser shows a header only when it is whole, so an endless one is seen here alone.
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_TOO_LONG)
            elif self._head_timer is None:
                self._await_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_open = True
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        # An exception ends the parse; uvicorn then calls send_400_response.
        if len(self.headers) > MAX_HEADERS:
            self._refusal = _TOO_MANY
            raise ValueError(_TOO_MANY.status)

    def on_headers_complete(self) -> None:
        self._head_done()
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refusal = _TOO_LONG
            raise ValueError(_TOO_LONG.status)
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or problem(400, msg))

    def handle_websocket_upgrade(self) -> None:
        if self.parser.get_http_version() != "1.1":
            self._refuse(problem(426, "A WebSocket needs HTTP/1.1.", Upgrade="websocket"))
        elif (b"sec-websocket-version", b"13") not in self.headers:
            # Here, because websockets answers 400, which does not tell a client what would be right (RFC 6455, 4.4).
            self._refuse(problem(426, "Sec-WebSocket-Version must be 13.", Sec_WebSocket_Version="13"))
        else:
            super().handle_websocket_upgrade()
            # The parser and the protocol hold each other: without this, each connection would leave some forty objects
            # behind for the garbage collector.
            del self.parser

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.handshake_timeout, self._head_late)

    def _head_done(self) -> None:
        self._head_open = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        if self._head_open:
            self._refuse(problem(408, f"The request head took longer than {self.handshake_timeout:g} s."))
        else:
            self.transport.close()  # it never began a request: there is nothing to answer

    def _refuse(self, refusal: Refusal) -> None:
        self._head_done()
        if not self.transport.is_closing():
            self.transport.write(encode_refusal(refusal, self.server_state.default_headers))
            self.transport.close()


_TOO_MANY = problem(431, f"The request has more than {MAX_HEADERS} headers.")
_TOO_LONG = problem(431, f"The request head is longer than {MAX_HEAD_BYTES} bytes.")


def http_protocol(handshake_timeout: float = HANDSHAKE_TIMEOUT) -> type[BoundedHttp]:
    """Make the class to give to uvicorn as ``http``.

    Args:
        handshake_timeout: how long the head of a request may take, from the connection or the first byte of a later
            request, in seconds; then 408.
    """
    return type("BoundedHttp", (BoundedHttp,), {"handshake_timeout": handshake_timeout})
