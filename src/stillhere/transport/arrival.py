"""Where a connection begins, on the native transport: its first bytes decide what it becomes.

Nearly all connections here are upgrades whose head comes in one piece, and about which the gate decides at once. For
those, the protocol that they begin with becomes their WebSocket: no parser, request or answer of HTTP is made, the
event loop is not asked to change protocols, and there is no timer. Everything else, odd upgrades included, is
uvicorn's HTTP's, which comes back with the whole head of an upgrade.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from stillhere.server.socket import Gate, Welcome
from stillhere.transport.bounds import HIGH_WATER, LOW_WATER, MAX_MESSAGE_BYTES
from stillhere.transport.first import UPGRADE, Waiting
from stillhere.transport.handshake import VERDICT_TIMEOUT, Handshake, ask
from stillhere.transport.http import BoundedHttp
from stillhere.transport.native import Settings, WebSocket


class Upgrade(Handshake):
    """An upgrade that uvicorn parsed, or about which the gate thinks for a while. See :func:`native_protocols`."""

    __slots__ = ()

    gate: ClassVar[Gate]
    settings: ClassVar[Settings]
    path: ClassVar[str]
    verdict_timeout: ClassVar[float]

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(server_state, self.gate, self.path, self.verdict_timeout)

    def open(self, welcome: Welcome, key: str) -> None:
        protocol = WebSocket(self._state)
        self.transport.set_protocol(protocol)  # first: whatever fails from here on, the endpoint is told of the loss
        protocol.welcome(self.transport, self.settings, welcome, key)


class Arrival(WebSocket):
    """A connection from its first byte on. See :func:`native_protocols`."""

    __slots__ = ("_app_state", "_config", "_open")

    upgrade: ClassVar[type[Upgrade]]
    http: ClassVar[type[BoundedHttp]]
    waiting: ClassVar[Waiting]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(server_state)
        self._config: Config | None = config
        self._app_state = app_state
        self._open = False

    def late(self) -> None:
        """It never began a request: there is nothing to answer."""
        self._tcp.close()

    # What the event loop and uvicorn call; once the connection is open, all is WebSocket's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = cast(asyncio.Transport, transport)
        self.waiting.add(self)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._open:
            super().data_received(data)
        else:
            self._judge(data)

    def eof_received(self) -> bool:
        return super().eof_received() if self._open else False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._open:
            super().connection_lost(exc)
        else:
            self._leave()

    def shutdown(self) -> None:
        if self._open:
            super().shutdown()
        else:
            self._tcp.close()

    # Inside

    def _leave(self) -> None:
        self.waiting.discard(self)
        self._connections.discard(self)

    def _judge(self, data: bytes) -> None:
        """The first bytes are there."""
        self._leave()
        upgrade, tcp = self.upgrade, self._tcp
        if not UPGRADE.fullmatch(data):
            self._make_way(self.http).data_received(data)
            return
        verdict, key = ask(upgrade.gate, data, tcp, upgrade.path)
        if isinstance(verdict, Welcome):
            self._open = True
            self._config = None
            self.welcome(tcp, upgrade.settings, verdict, key)
        else:
            self._make_way(upgrade).settle(verdict, key)

    def _make_way(self, kind: Any) -> Any:
        protocol = kind(config=self._config, server_state=self._state, app_state=self._app_state)
        protocol.connection_made(self._tcp)
        self._tcp.set_protocol(protocol)
        return protocol


def native_protocols(
    gate: Gate,
    http: type[BoundedHttp],
    *,
    path: str = "/ws",
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    high_water: int = HIGH_WATER,
    low_water: int = LOW_WATER,
    verdict_timeout: float = VERDICT_TIMEOUT,
) -> tuple[type[asyncio.Protocol], type[asyncio.Protocol]]:
    """Make the classes to give to uvicorn as ``http`` and ``ws``.

    Args:
        gate: decides about every upgrade.
        http: whose everything is that is no upgrade in one piece; its ``handshake_timeout`` is also how long a
            connection may say nothing.
        path: where WebSockets are served; elsewhere an upgrade gets 404.
        max_message_bytes: bound of a message; above it 1009.
        high_water: unsent bytes above which ``on_full`` is called.
        low_water: and below which then ``on_writable`` is.
        verdict_timeout: how long the gate may think, in seconds.
    """
    shared = {
        "__slots__": (),
        "gate": gate,
        "settings": Settings(max_message_bytes, high_water, low_water),
        "path": path,
        "verdict_timeout": verdict_timeout,
    }
    upgrade = type("Upgrade", (Upgrade,), shared)
    first = {"__slots__": (), "upgrade": upgrade, "http": http, "waiting": Waiting(http.handshake_timeout)}
    return type("Arrival", (Arrival,), first), upgrade
