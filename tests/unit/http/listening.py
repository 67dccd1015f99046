"""Readers of ``/v1/events``: over a real server, and one whose pace the test decides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
from starlette.applications import Starlette

from stillhere.server.node import Node
from stillhere.transport.serve import build_server

PATIENCE = 5.0
"""How long a test waits for what must happen, in seconds."""


class Event(NamedTuple):
    """A server-sent event."""

    name: str
    id: str
    data: dict[str, Any]


class Parser:
    """As the standard says, for what is sent here."""

    def __init__(self) -> None:
        self.last_id = ""
        self.comments: list[str] = []
        self._block: dict[str, str] = {}

    def line(self, line: str) -> Event | None:
        """Take a line; returns the event that it ends, if any."""
        if line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not field:
                self.comments.append(value)
            else:
                self._block[field] = value
            return None
        block, self._block = self._block, {}
        self.last_id = block.get("id", self.last_id)
        if "data" not in block:
            return None
        return Event(block["event"], self.last_id, json.loads(block["data"]))


class Reader:
    """Reads a stream over the network."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.parser = Parser()
        self._lines = answer.aiter_lines()

    async def next(self) -> Event:
        """The next event."""
        async with asyncio.timeout(PATIENCE):
            async for line in self._lines:
                if (event := self.parser.line(line)) is not None:
                    return event
        raise EOFError

    async def until(self, comment: str) -> None:
        """Read until there is a comment, and the id that comes with it."""
        async with asyncio.timeout(PATIENCE):
            async for line in self._lines:
                self.parser.line(line)
                if not line and comment in self.parser.comments:
                    self.parser.comments.clear()
                    break

    async def ended(self) -> bool:
        """Whether the stream ends here, as it should."""
        async with asyncio.timeout(PATIENCE):
            return [line async for line in self._lines] == []


class Site:
    """A server on a real port."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.url = url
        self.client = client

    @asynccontextmanager
    async def listening(self, query: str = "", **headers: str) -> AsyncIterator[Reader]:
        """A reader that has been let in."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.stream("GET", f"{self.url}/v1/events{query}", headers=given) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            reader = Reader(answer)
            if "last-event-id" not in {name.lower() for name in given}:
                await reader.until("listening")
            yield reader


@asynccontextmanager
async def serving(app: Starlette, node: Node, token: str) -> AsyncIterator[Site]:
    """Serve on a free port of this machine; the server does not drain the node."""
    server = build_server(app, node, port=0, stop_timeout=1)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.005)
    try:
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE) as client:
            yield Site(f"http://127.0.0.1:{server.port}", client)
    finally:
        server.should_exit = True
        await task


class Paced:
    """A reader without a network, that takes a part only when the test lets it."""

    def __init__(self, app: Starlette, token: str, query: str = "") -> None:
        self.parts: list[bytes] = []
        self.status = 0
        self.gone = asyncio.Event()
        self.may_take = asyncio.Semaphore(0)
        self._offered = asyncio.Event()
        self._scope = {
            "type": "http",
            "method": "GET",
            "path": "/v1/events",
            "raw_path": b"/v1/events",
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost"), (b"authorization", f"Bearer {token}".encode())],
            "client": ("127.0.0.1", 1),
        }
        self.task = asyncio.create_task(app(self._scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        self.parts.append(message["body"])
        self._offered.set()
        await self.may_take.acquire()

    async def offered(self) -> bytes:
        """The next part that is offered; it is not taken by this."""
        async with asyncio.timeout(PATIENCE):
            await self._offered.wait()
        self._offered.clear()
        return self.parts[-1]

    async def take(self) -> bytes:
        """Take the part that is offered, and wait for the next one."""
        self.may_take.release()
        return await self.offered()

    async def ended(self) -> None:
        """Wait for the end."""
        async with asyncio.timeout(PATIENCE):
            await self.task


def parsed(text: bytes) -> list[Event]:
    """The events in a text."""
    parser = Parser()
    return [event for line in text.decode().split("\n") if (event := parser.line(line)) is not None]
