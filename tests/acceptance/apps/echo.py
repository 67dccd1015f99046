"""An echo server on either transport, for conformance runs and for the tests of the stop.

Prints the port that it listens on; at SIGTERM it drains for ``--drain`` seconds, and its HTTP side says so.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from stillhere.server.socket import Socket, UpgradeRequest, Welcome
from stillhere.transport.serve import build_server


class Echo:
    """Sends every message back."""

    _socket: Socket

    def on_open(self, socket: Socket) -> None:
        self._socket = socket

    def on_text(self, message: bytes) -> None:
        self._socket.send(message)

    def on_binary(self, message: bytes) -> None:
        self._socket.send_binary(message)

    def on_heard(self) -> None: ...

    def on_close_frame(self, code: int, reason: str) -> None: ...

    def on_violation(self, code: int, reason: str) -> None: ...

    def on_lost(self, error: BaseException | None) -> None: ...

    def on_full(self) -> None: ...

    def on_writable(self) -> None: ...


class EchoGate:
    """Welcomes everybody."""

    def greet(self, request: UpgradeRequest) -> Welcome:
        return Welcome(Echo(), None)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--websocket", choices=["native", "asgi"], default="native")
    arguments.add_argument("--drain", type=float, default=0.0)
    chosen = arguments.parse_args()
    draining = False

    async def drain() -> None:
        nonlocal draining
        draining = True
        await asyncio.sleep(chosen.drain)

    async def ready(request: Request) -> PlainTextResponse:
        return PlainTextResponse("draining" if draining else "ready", 503 if draining else 200)

    server = build_server(
        Starlette(routes=[Route("/readyz", ready)]),
        EchoGate(),
        port=0,
        websocket=chosen.websocket,
        path="/",  # where the conformance suite asks
        max_message_bytes=1 << 20,
        heartbeat_interval=3600.0,
        heartbeat_timeout=3600.0,
        stop_timeout=1,
        on_stop=drain,
    )
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    server.run()


if __name__ == "__main__":
    main()
