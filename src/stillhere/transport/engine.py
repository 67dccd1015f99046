"""What is put between picows and a connection while picows begins, to spare it what nobody needs.

picows parses a request of its own, makes an answer with a map of headers, and asks the operating system for figures
that go into a debug line: a third of what a whole connect costs. The request has been judged already
(:mod:`stillhere.transport.head`), uvloop and asyncio have set ``TCP_NODELAY``, and nobody reads the line. Everything
here depends on the release of picows that is pinned; tests/unit/transport/test_picows.py holds what is relied upon.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from http import HTTPStatus
from typing import Any, cast

from picows import WSUpgradeRequest, WSUpgradeResponse

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
"""The shortest request that picows parses; :func:`asked` adds what it then looks for."""

_log = logging.getLogger("stillhere.transport")
_NO_HEADERS: Any = {}


class _Quiet:
    """What picows takes for a logger: it says what broke inside picows, and nothing of a peer's faults.

    With a ``logging.Logger``, picows makes a child of it for each connection.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name that picows calls
        return False

    def debug(self, message: str, *args: object) -> None: ...

    info = warning = error = debug

    def exception(self, message: str, *args: object) -> None:
        _log.error(message, *args, exc_info=True)


QUIET = _Quiet()


class Underneath:
    """A transport as picows sees it: its socket has a number, and options that cost no call of the system."""

    __slots__ = ("_tcp",)

    def __init__(self, tcp: asyncio.Transport) -> None:
        self._tcp = tcp

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tcp, name)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``socket`` is this very object; of addresses, picows only wants to tell."""
        if name == "socket":
            return self
        return self._tcp.get_extra_info(name, default) if name == "ssl_object" else default

    def fileno(self) -> int:
        """The real one: picows sends on it."""
        return cast(int, self._tcp.get_extra_info("socket").fileno())

    def setsockopt(self, *_: object) -> None:
        """``TCP_NODELAY`` is set; ``TCP_QUICKACK`` would send an acknowledgement that the answer carries anyway."""

    def getsockopt(self, *_: object) -> int:
        """For the debug line."""
        return 0


class Switching:
    """The 101, one object for all connections: picows keeps it, and writes the one header that differs each time."""

    __slots__ = ("_accept", "_head", "headers")

    status = HTTPStatus.SWITCHING_PROTOCOLS

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._accept = ""
        self.headers = self

    def __setitem__(self, name: str, value: str) -> None:
        """``Sec-WebSocket-Accept``; the bytes are asked for next."""
        self._accept = value

    def to_bytes(self) -> bytearray:
        """The answer."""
        return bytearray(self._head + self._accept.encode() + b"\r\n\r\n")


@functools.cache
def switching(subprotocol: str | None) -> WSUpgradeResponse:
    """The answer that selects this subprotocol."""
    selected = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    head = f"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{selected}"
    return cast(WSUpgradeResponse, Switching(f"{head}Sec-WebSocket-Accept: ".encode()))


def asked(request: WSUpgradeRequest, key: str, answer: WSUpgradeResponse) -> WSUpgradeResponse:
    """Let a request be one that picows answers with 101.

    Args:
        request: :data:`REQUEST`, parsed.
        key: the client's ``Sec-WebSocket-Key``.
        answer: what :func:`switching` made; given back.
    """
    request.headers = cast(
        Any,
        {
            "upgrade": "websocket",
            "connection": "upgrade",
            "sec-websocket-version": "13",
            "sec-websocket-key": key,
        },
    )
    return answer


def forget(request: WSUpgradeRequest | None) -> None:
    """picows keeps the request for the life of the connection."""
    if request is not None:
        request.headers = _NO_HEADERS
