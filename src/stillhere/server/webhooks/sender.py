"""One attempt: a POST over a connection of its own, to an address that was judged, with bounds on all that comes back.

HTTP/1.1 by hand, since next to nothing of it is needed: a request with a length, and of the answer the status. No
redirect is followed, and a body is read only so that the connection ends politely.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import stillhere
from stillhere.server.webhooks.destination import Destination, LookUp, Resolver, Unacceptable, look_up

HEAD_BYTES = 16 * 1024
BODY_BYTES = 64 * 1024
_BODY_SECONDS = 1.0
_INTERIM = 4
"""Answers 1xx that are skipped before the one that counts."""

_ADDRESSES = 3
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_RETRY = re.compile(rb"\r\nretry-after:[ \t]*([0-9]{1,6})[ \t]*\r\n", re.IGNORECASE)


class NotDelivered(Exception):
    """No answer came that would count; the text says why."""


class Answer(NamedTuple):
    """What an endpoint said."""

    status: int
    retry_after: float | None = None
    """Seconds that it asked to be left alone."""

    @property
    def taken(self) -> bool:
        """Whether the message counts as delivered: any 2xx."""
        return 200 <= self.status < 300


class Sender:
    """Posts to one destination."""

    def __init__(
        self,
        destination: Destination,
        *,
        loopback: bool,
        timeout: float,
        context: ssl.SSLContext | None = None,
        look_up: LookUp = look_up,
    ) -> None:
        """Prepare; nothing is connected before :meth:`post`.

        Args:
            destination: where to.
            loopback: whether loopback is allowed, and plain HTTP to it.
            timeout: seconds for a whole attempt.
            context: for TLS; the system's authorities if None.
            look_up: asks the system for addresses.
        """
        self.destination = destination
        self._timeout = timeout
        self._resolver = Resolver(destination, loopback=loopback, look_up=look_up)
        self._context = context
        self._head = (
            f"POST {destination.target} HTTP/1.1\r\nHost: {destination.authority}\r\n"
            f"User-Agent: stillhere/{stillhere.__version__}\r\nAccept: */*\r\nConnection: close\r\n"
            "Content-Type: application/json\r\n"
        )

    async def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a message.

        Args:
            headers: beside those that every request has.
            body: JSON.

        Raises:
            NotDelivered: refused address, no connection, no answer in time, no HTTP.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"{self._head}{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
        try:
            async with asyncio.timeout(self._timeout):
                return await self._exchange(request)
        except TimeoutError:
            raise NotDelivered(f"no answer within {self._timeout:g} s") from None
        except Unacceptable as error:
            raise NotDelivered(str(error)) from None
        except asyncio.IncompleteReadError as error:
            raise NotDelivered(_closed(error.partial)) from None
        except asyncio.LimitOverrunError:
            raise NotDelivered(f"the head of its answer is longer than {HEAD_BYTES} bytes") from None
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", None) or error.reason or str(error)
            raise NotDelivered(f"no secure connection: {why}") from None
        except OSError as error:
            raise NotDelivered(f"no connection: {error.strerror or error}") from None

    async def _exchange(self, request: bytes) -> Answer:
        reader, writer = await self._connect(await self._resolver.addresses())
        polite = False
        try:
            writer.write(request)
            try:
                await writer.drain()
            except ConnectionError:
                pass  # it may have answered before it had read all
            answer, length = await _read_head(reader)
            polite = await _skip_body(reader, length)
            return answer
        finally:
            if polite:
                writer.close()
            else:
                writer.transport.abort()

    async def _connect(self, addresses: Sequence[str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first of the addresses that answers; the name is for TLS only."""
        tried = addresses[:_ADDRESSES]
        for address in tried[:-1]:
            with contextlib.suppress(OSError):  # among them this address's share of the time
                async with asyncio.timeout(self._timeout / len(tried)):
                    return await self._open(address)
        return await self._open(tried[-1])

    async def _open(self, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        to = self.destination
        if not to.secure:
            return await asyncio.open_connection(address, to.port, limit=HEAD_BYTES)
        if self._context is None:
            self._context = ssl.create_default_context()
        return await asyncio.open_connection(
            address, to.port, limit=HEAD_BYTES, ssl=self._context, server_hostname=to.host
        )


async def _read_head(reader: asyncio.StreamReader) -> tuple[Answer, int | None]:
    """The answer, and the length of its body where it says one."""
    for _ in range(_INTERIM):
        head = await reader.readuntil(b"\r\n\r\n")
        found = _STATUS.match(head)
        if found is None:
            raise NotDelivered(f"its answer is not HTTP: {head[:40]!r}")
        status = int(found[1])
        if status >= 200:
            length, retry = _LENGTH.search(head), _RETRY.search(head)
            after = float(retry[1]) if retry and status in (429, 503) else None
            return Answer(status, after), int(length[1]) if length else None
    raise NotDelivered("it answers nothing but 1xx")


async def _skip_body(reader: asyncio.StreamReader, length: int | None) -> bool:
    """Read what is left, within bounds: the answer counts in any case. Returns whether all was read."""
    if length is None or length > BODY_BYTES:
        return False
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while length > 0:
                chunk = await reader.read(min(length, HEAD_BYTES))
                if not chunk:
                    return False
                length -= len(chunk)
    except OSError:  # a time-out is one
        return False
    return True


def _closed(partial: bytes) -> str:
    if not partial:
        return "it closed the connection without an answer"
    return f"its answer is not HTTP, or broke off: {partial[:40]!r}"
