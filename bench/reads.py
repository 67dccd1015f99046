"""Reads over HTTP: one connection that is kept, one request at a time."""

from __future__ import annotations

import asyncio
import json
import time
from types import TracebackType
from typing import Any

import jwt

from bench.stand import SECRET, TOKEN_SECONDS, Failed


class Reader:
    """A client of the HTTP API that may read: ``async with Reader(port) as reader``."""

    def __init__(self, port: int, secret: str = SECRET) -> None:
        """Prepare.

        Args:
            port: of the server, on 127.0.0.1.
            secret: for the token.
        """
        token = jwt.encode({"sub": "reader", "exp": int(time.time() + TOKEN_SECONDS), "scope": "read"}, secret, "HS256")
        self._rest = f" HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
        self._port = port

    async def __aenter__(self) -> Reader:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    async def _open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)

    async def get(self, path: str) -> tuple[int, bytes]:
        """The status and the body of an answer; once more on a new connection where the kept one was ended meanwhile.

        Raises:
            Failed: the answer has no length, or the server hung up twice.
        """
        try:
            return await self._get(path)
        except (OSError, asyncio.IncompleteReadError):
            self._writer.close()
            await self._open()
        try:
            return await self._get(path)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Failed(f"GET {path}: the server hung up") from error

    async def _get(self, path: str) -> tuple[int, bytes]:
        """The status and the body of an answer.

        Raises:
            Failed: the answer has no length.
            IncompleteReadError: the server hung up.
        """
        self._writer.write(f"GET {path}{self._rest}".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.split(" ", 2)[1])
        lengths = [line for line in head.lower().split("\r\n") if line.startswith("content-length:")]
        if not lengths:
            raise Failed(f"GET {path} was answered without a length: {head!r}")
        return status, await self._reader.readexactly(int(lengths[0].partition(":")[2]))

    async def stats(self) -> dict[str, Any]:
        """``/v1/stats``.

        Raises:
            Failed: there is none.
        """
        status, body = await self.get("/v1/stats")
        if status != 200:
            raise Failed(f"/v1/stats was answered with {status}: {body[:300]!r}")
        told: dict[str, Any] = json.loads(body)
        return told


async def can_read(port: int) -> bool:
    """Whether there is an HTTP API at all: the peers that were written by hand have none."""
    try:
        async with asyncio.timeout(5), Reader(port) as reader:
            return (await reader.get("/v1/stats"))[0] == 200
    except (OSError, TimeoutError, Failed):
        return False
