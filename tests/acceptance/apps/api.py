"""A whole server for tests of the HTTP API: a node on a store in memory.

Prints the port that it listens on.
"""

from __future__ import annotations

import asyncio
import sys
import time

from stillhere.http.app import build_app
from stillhere.server.auth import Authenticator, mint
from stillhere.server.node import Node
from stillhere.server.settings import load_settings
from stillhere.store.memory import MemoryStore
from stillhere.transport.serve import build_server

SECRET = "a secret for tests, and for nothing else"


def make_node() -> Node:
    """A node, not started."""
    settings = load_settings(None, {}, {"auth.secret": SECRET, "server.node": "under-test"})
    store = MemoryStore(time.time, policy=settings.grace.policy)
    return Node(settings, store, authenticator=Authenticator.of(settings.auth))


def make_token() -> str:
    """A token with which everything may be called."""
    return mint(SECRET, "operator", now=time.time(), scope="admin")


async def serve() -> None:
    """Run until the first signal."""
    node = make_node()
    await node.start()
    server = build_server(build_app(node), node, port=0)
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    try:
        await server.serve()
    finally:
        await node.stop()


def main() -> None:
    """Serve."""
    asyncio.run(serve())


if __name__ == "__main__":
    main()
