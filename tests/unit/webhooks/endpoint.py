"""A real HTTP server on loopback that a webhook is posted to: it takes messages, or fails as a test wants it to.

It runs in a thread of its own, so that it answers whatever the test does meanwhile.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Request(NamedTuple):
    """What came in."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def message(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def user(self) -> str:
        return str(self.message["data"].get("user", ""))

    def verify(self, key: bytes = KEY) -> None:
        """As a receiver does it."""
        stamp = self.headers["webhook-timestamp"]
        assert abs(int(stamp) - time.time()) < 300
        signed = f"{self.id}.{stamp}.".encode() + self.body
        wanted = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        assert wanted in self.headers["webhook-signature"].split(" ")


Behaviour = Callable[[Request], bytes | None]
"""The bytes that are answered; None answers nothing and keeps the connection open."""


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def takes_all(request: Request) -> bytes:
    return answer(204)


class Endpoint:
    """See the module; a context manager."""

    def __init__(self, behaviour: Behaviour = takes_all) -> None:
        self.behaviour = behaviour
        self.requests: list[Request] = []
        self.connections = 0
        self.port = 0
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="endpoint", daemon=True)

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def __enter__(self) -> Endpoint:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._end is not None
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def wait(self, enough: Callable[[list[Request]], bool], seconds: float = 20.0) -> list[Request]:
        """Until what came in is enough. Returns all of it."""
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self.requests), seconds), [r.message for r in self.requests]
            return list(self.requests)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            _, path, _ = head[0].split(" ")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers["content-length"]))
            request = Request(path, headers, body)
            with self._changed:
                self.requests.append(request)
                self._changed.notify_all()
            told = self.behaviour(request)
            if told is None:
                await asyncio.sleep(3600)
            writer.write(told or b"")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
