"""What the tests of the HTTP API stand on: a real node, whose time is moved by hand, behind the real application."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
from starlette.applications import Starlette

from stillhere.http.app import DevMode, StreamLimits, build_app
from stillhere.server.auth import Authenticator, mint
from stillhere.server.node import Admit, Node
from stillhere.server.peer import Peer
from stillhere.server.settings import Settings, load_settings
from stillhere.server.socket import UpgradeRequest, Welcome
from stillhere.store.local import LocalStore
from stillhere.store.memory import MemoryStore

SECRET = "a secret for tests, and for nothing else"
API_KEY = "an API key of at least thirty-two bytes"
START = 1_790_000_000.0
PAGES_NOT_BUILT = Path("/nonexistent")


class Clock:
    """Unix time and the monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Wire:
    """A WebSocket without a network: the test plays the client, and hears what the node sends."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.aborted = False
        self.endpoint: Peer

    def send_binary(self, message: bytes) -> None:
        raise AssertionError("the native protocol has no binary messages")

    def send(self, frame: bytes) -> None:
        self.frames.append(json.loads(frame))

    def ping(self) -> bool:
        return True

    def close(self, code: int, reason: str = "") -> None:
        if self.closed is None:
            self.closed = (code, reason)

    def abort(self) -> None:
        self.aborted = True

    def unsent(self) -> int:
        return 0

    def say(self, **message: Any) -> None:
        """The client sends a message."""
        self.endpoint.on_text(json.dumps(message).encode())

    def leave(self, code: int) -> None:
        """The client sends a close frame and ends TCP."""
        self.endpoint.on_close_frame(code, "")
        self.endpoint.on_lost(None)

    @property
    def id(self) -> str:
        """The connection's id."""
        return str(next(f["connectionId"] for f in self.frames if f["type"] == "welcome"))


class Lines(logging.Handler):
    """Keeps the lines of the event log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Stand:
    """A node on a store in memory, its HTTP application, and a client of it."""

    def __init__(
        self, node: Node, store: LocalStore, clock: Clock, app: Starlette, client: httpx.AsyncClient, lines: list[str]
    ) -> None:
        self.node = node
        self.store = store
        self.clock = clock
        self.app = app
        self.client = client
        self.lines = lines
        self.wires: list[Wire] = []

    def token(self, user: str = "operator", **claims: Any) -> str:
        return make_token(user, self.clock.now, **claims)

    async def get(self, path: str, *, status: int = 200, **more: Any) -> Any:
        """What a reader is answered."""
        return await self._call("GET", path, status, "read", more)

    async def post(self, path: str, body: Any = None, *, status: int = 200, **more: Any) -> Any:
        """What an administrator is answered."""
        if body is not None:
            more["json"] = body
        return await self._call("POST", path, status, "admin", more)

    async def _call(self, method: str, path: str, status: int, scope: str, more: dict[str, Any]) -> Any:
        headers = {"Authorization": f"Bearer {self.token(scope=scope)}", **more.pop("headers", {})}
        answer = await self.client.request(method, path, headers=headers, **more)
        assert answer.status_code == status, answer.text
        kind = "application/json" if status < 400 else "application/problem+json"
        assert answer.headers["content-type"] == kind
        return answer.json()

    async def connect(self, user: str, tab: str = "t1", *, settle: bool = True, **query: str) -> Wire:
        """Open a connection of a user."""
        token = self.token(user, watch="*", rooms="*", sid=f"s_{user}")
        headers = {"host": "localhost", "authorization": f"Bearer {token}", "user-agent": "Chrome/156.0"}
        verdict = self.node.greet(UpgradeRequest("/ws", {"tab": tab, **query}, headers, "127.0.0.1"))
        assert isinstance(verdict, Welcome), verdict
        assert isinstance(verdict.endpoint, Peer)
        wire = Wire()
        wire.endpoint = verdict.endpoint
        self.wires.append(wire)
        verdict.endpoint.on_open(wire)
        if settle:
            await self.settle()
        return wire

    async def settle(self) -> None:
        """Until the store has acknowledged everything, and the followers have been told."""
        await self.node.keeper.settle()
        for _ in range(10):
            await asyncio.sleep(0)

    async def wait(self, seconds: float) -> None:
        """Let time pass, with a sweep at least each second."""
        end = self.clock.now + seconds
        while self.clock.now < end - 1e-9:
            self.clock.now = min(end, self.clock.now + 1.0)
            self.node.keeper.report((await self.store.sweep()).events)
            await self.settle()

    def image(self) -> bytes:
        """All that the ledger holds, encoded."""
        ledger = self.store.ledger
        return msgspec.msgpack.encode((ledger.state, sorted(ledger.records.items()), sorted(ledger.rooms.items())))


def make_token(user: str, now: float, **claims: Any) -> str:
    """A token that the node of a test accepts."""
    return mint(SECRET, user, now=now, **claims)


def settings(**flags: Any) -> Settings:
    """Settings of a test's node; ``server__node`` stands for ``server.node``."""
    given = {"auth.secret": SECRET, "admin.api_keys": [API_KEY], "server.node": "n1"}
    given.update({key.replace("__", "."): value for key, value in flags.items()})
    return load_settings(None, {}, given)


@asynccontextmanager
async def standing(
    *,
    dev: DevMode | None = None,
    streams: StreamLimits | None = None,
    pages: Path = PAGES_NOT_BUILT,
    make: Callable[[Settings, Clock], LocalStore] | None = None,
    admit: Admit | None = None,
    **flags: Any,
) -> AsyncIterator[Stand]:
    """Run all of it."""
    clock, config = Clock(), settings(**flags)
    store = make(config, clock) if make else MemoryStore(clock, policy=config.grace.policy)
    node = Node(config, store, authenticator=Authenticator.of(config.auth), admit=admit, now=clock, monotonic=clock)
    lines = Lines()
    logger = logging.getLogger("stillhere.presence")
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    await node.start()
    app = build_app(node, dev=dev, streams=streams, pages=pages)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield Stand(node, store, clock, app, client, lines.lines)
    finally:
        await node.stop()
        logger.removeHandler(lines)
