"""The first bytes of a connection: what they ask for, and how long they may take to come."""

from __future__ import annotations

import asyncio
import re
from typing import Protocol

UPGRADE = re.compile(
    rb"GET /[!-~]* HTTP/1\.1\r\n"
    rb"(?=(?:[^\n]*\n)*?[Uu]pgrade: *[Ww]eb[Ss]ocket\r\n)"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)+\r\n"
)
"""The head of an upgrade as clients send it, whole and with nothing after it (RFC 9110 section 5.1, 5.5)."""


class Silent(Protocol):
    """A connection that has said nothing yet."""

    def late(self) -> None:
        """It took too long."""
        ...


class Waiting:
    """Who has said nothing yet, with one timer for all: they come in the order in which their time runs out.

    Args:
        timeout: how long one may be silent, in seconds.
    """

    __slots__ = ("_loop", "_timer", "_until", "timeout")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._until: dict[Silent, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, who: Silent) -> None:
        """From now on."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        self._until[who] = loop.time() + self.timeout
        if self._timer is None:
            self._timer = loop.call_later(self.timeout, self._look)

    def discard(self, who: Silent) -> None:
        """It has spoken, or it is gone."""
        self._until.pop(who, None)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._until)

    def _look(self) -> None:
        assert self._loop is not None
        self._timer = None
        now = self._loop.time()
        for who, until in list(self._until.items()):
            if until > now:
                self._timer = self._loop.call_at(until, self._look)
                break
            del self._until[who]
            who.late()
