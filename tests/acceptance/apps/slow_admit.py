"""A server whose application takes its time to let somebody in: an upgrade with ``?hold=NAME`` is in flight until the
file NAME exists in the folder that the first argument names; what it holds, ``yes`` or ``no``, is the answer.

Settings come from the environment, as for ``stillhere serve``.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable
from pathlib import Path

from stillhere.cli import logs
from stillhere.cli.running import address
from stillhere.http.app import build_app
from stillhere.server.auth import Authenticator, Identity
from stillhere.server.node import Node
from stillhere.server.settings import load_settings
from stillhere.server.socket import UpgradeRequest
from stillhere.store.open import open_store
from stillhere.transport.serve import build_server

POLL = 0.005
"""Seconds between two looks at the folder."""


async def serve(answers: Path) -> None:
    """Serve until SIGTERM."""
    settings = load_settings(None, os.environ, {})
    logs.configure(settings.server.log_format, settings.server.log_level)

    async def decide(answer: Path) -> bool:
        while not answer.exists():  # noqa: ASYNC110 - a test on the other side of the file system has no event for us
            await asyncio.sleep(POLL)
        return answer.read_text() == "yes"

    def admit(identity: Identity, request: UpgradeRequest) -> bool | Awaitable[bool]:
        held = request.query.get("hold")
        return True if held is None else decide(answers / held)

    node = Node(
        settings,
        open_store(settings.store.url, time.time, policy=settings.grace.policy),
        authenticator=Authenticator.of(settings.auth),
        admit=admit,
    )
    await node.start()
    server = build_server(
        build_app(node),
        node,
        port=settings.server.port,
        websocket=settings.server.websocket,
        verdict_timeout=settings.limits.handshake_timeout,
        on_stop=node.drain,
    )
    node.log.emit("serving", url=address(server))
    try:
        await server.serve()
    finally:
        await node.stop()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
