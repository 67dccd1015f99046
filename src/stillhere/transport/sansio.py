"""uvicorn's ``websockets-sansio``, held to what an ASGI server can keep of the transport's promises.

As it stands it reports a disconnect the moment the application asks for the close, whatever the peer does; it takes any
number of empty fragments, and logs a traceback for every text that is not UTF-8; and it does not tell a ping without an
answer from an end of TCP.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame

from stillhere.transport.asgi import ERROR_KEY
from stillhere.transport.message_layer import MessageLayer, Violation, short_reason


class _Events(asyncio.Queue[ASGIReceiveEvent]):
    """The application's events, without the disconnects that have not happened yet."""

    def __init__(self, protocol: SansIo) -> None:
        super().__init__()
        self._protocol = protocol

    def put_nowait(self, item: ASGIReceiveEvent) -> None:
        if item["type"] != "websocket.disconnect" or self._protocol.over:
            super().put_nowait(item)


class SansIo(WebSocketsSansIOProtocol):
    """Beside what uvicorn's does:

    - after a close of ours, the disconnect comes when TCP has ended (uvicorn sees to that within 10 s), with the
      exception that it ended with;
    - messages are checked as on the native transport: fragments are counted, and bad UTF-8 ends the conversation at its
      first byte, without a traceback in the log;
    - an application that returns without having seen a disconnect has its connection aborted.
    """

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self.queue = _Events(self)
        self._accepted = False
        self._lost = False
        self._failed = False
        self._error: BaseException | None = None
        self._layer = MessageLayer(config.ws_max_size)

    @property
    def over(self) -> bool:
        """Whether a disconnect would be true: the peer closed or broke the protocol, or TCP has ended."""
        ended = self._lost or self._failed or not self._accepted
        return ended or self.conn.close_rcvd is not None or self.conn.parser_exc is not None

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        error = self._error or exc
        if error is not None:
            event: Any = {"type": "websocket.disconnect", "code": 1006, ERROR_KEY: error}
            self.queue.put_nowait(event)
        super().connection_lost(exc)

    def eof_received(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # closing would wait until somebody took what is unsent

    def handle_text(self, event: Frame) -> None:
        if self._allowed(event):
            super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        if self._allowed(event):
            super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        if self._allowed(event):
            super().handle_cont(event)

    def _allowed(self, event: Frame) -> bool:
        """Check a data frame by the rules of the native transport; end the conversation if it breaks them."""
        if self._failed or self.close_sent:
            return False
        try:
            self._layer.data(event.opcode, event.fin, bytes(event.data))
        except Violation as violation:
            self._failed = True
            self.frames = []
            self.conn.fail(violation.code, short_reason(violation.reason))
            self.handle_parser_exception()
            return False
        return True

    def keepalive_timeout(self) -> None:
        if not self.close_sent and not self.transport.is_closing():
            self._error = TimeoutError(f"no answer to a ping within {self.ping_timeout:g} s")
        super().keepalive_timeout()
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # the peer takes nothing any more, so closing would never end

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "websocket.accept":
            self._accepted = True
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # uvicorn would log that the application left without an answer

    async def run_asgi(self) -> None:
        await super().run_asgi()
        if self._accepted and self.conn.close_rcvd is None and not self._failed:
            self.transport.abort()
