"""A node of Stillhere with default settings and no HTTP pages: ``node.py PORT SECRET STORE_URL WEBSOCKET``."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import uvloop

from stillhere.server.auth import Authenticator
from stillhere.server.node import Node
from stillhere.server.settings import load_settings
from stillhere.store.open import open_store
from stillhere.transport.serve import build_server


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Nothing but the lifespan."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return


async def main(port: int, secret: str, store: str, websocket: Any) -> None:
    """Serve until killed."""
    flags = {
        "auth.secret": secret,
        "limits.connections": 100_000,
        "limits.connections_per_ip": 100_000,
        "limits.messages_per_second": 1000.0,
    }
    settings = load_settings(None, {}, flags)
    node = Node(
        settings,
        open_store(store, time.time, policy=settings.grace.policy),
        authenticator=Authenticator.of(settings.auth),
    )
    await node.start()
    await build_server(app, node, port=port, websocket=websocket).serve()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(main(int(sys.argv[1]), *sys.argv[2:5]))
