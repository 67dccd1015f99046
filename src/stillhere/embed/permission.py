"""``may_watch`` and ``may_join``: the application says whom a connection may see, once per connection and id.

The verdicts are kept for the life of the connection, like those that a token brings. A question that fails, or is not
answered in time, is a no for a few seconds, and is asked again after that. Who may not be seen is answered for like
somebody who does not exist.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec

from stillhere.embed.callbacks import LOG, Callbacks, is_async
from stillhere.server.auth import Identity

RETRY = 5.0
"""Seconds for which a failed question counts as a no."""

AT_ONCE = 16
"""So many questions of one message are under way at the same time, where the callback is async."""

MayWatch = Callable[[Identity, str], bool | Awaitable[bool]]
"""Whether somebody may watch a user, or join a room."""


class Rule(msgspec.Struct, frozen=True):
    """One callback of the application, and how it is asked."""

    name: str
    function: MayWatch
    callbacks: Callbacks
    timeout: float
    """Seconds for all questions of one message."""
    kept: int
    """How many verdicts a connection keeps; the oldest is asked for again."""
    monotonic: Callable[[], float]


class Asked:
    """Fulfils :class:`stillhere.server.visibility.Visible` for one identity."""

    __slots__ = ("_denied", "_identity", "_own", "_rule", "_verdicts")

    def __init__(self, rule: Rule, identity: Identity, own: str | None) -> None:
        """Know nothing yet.

        Args:
            rule: whom to ask.
            identity: who wants to see.
            own: an id that is allowed without asking.
        """
        self._rule = rule
        self._identity = identity
        self._own = own
        self._verdicts: dict[str, bool] = {}
        self._denied: dict[str, float] = {}  # failed questions, and until when they are a no

    def allows(self, name: str) -> bool:
        """The verdict; no where there is none."""
        return name == self._own or self._verdicts.get(name, False)

    def ask(self, names: Sequence[str]) -> Awaitable[None] | None:
        """Ask about those of whom there is no verdict yet, all together."""
        verdicts, now = self._verdicts, self._rule.monotonic()
        if self._denied:
            self._denied = {name: until for name, until in self._denied.items() if until > now}
        missing = [n for n in names if n != self._own and n not in verdicts and n not in self._denied]
        return self._decide(missing) if missing else None

    async def _decide(self, names: Sequence[str]) -> None:
        rule = self._rule
        answers: dict[str, bool] = {}
        try:
            async with asyncio.timeout(rule.timeout):
                if is_async(rule.function):
                    await self._ask_each(names, answers)
                else:
                    await self._ask_together(names, answers)
        except TimeoutError:
            rule.callbacks.failed(rule.name, "late")
            LOG.warning("%s did not answer within %g s; that is a no for now", rule.name, rule.timeout)
        for name in names:
            if name in answers:
                self._verdicts[name] = answers[name]
            else:
                self._denied[name] = rule.monotonic() + RETRY
        for name in list(self._verdicts)[: max(0, len(self._verdicts) - rule.kept)]:
            del self._verdicts[name]

    async def _ask_each(self, names: Sequence[str], answers: dict[str, bool]) -> None:
        """A few at a time, in order."""
        rest = iter(names)
        workers = [asyncio.ensure_future(self._work(rest, answers)) for _ in range(min(AT_ONCE, len(names)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()

    async def _work(self, rest: Iterable[str], answers: dict[str, bool]) -> None:
        for name in rest:
            try:
                answers[name] = bool(await self._rule.function(self._identity, name))  # type: ignore[misc]
            except Exception as error:
                self._failed(error)

    async def _ask_together(self, names: Sequence[str], answers: dict[str, bool]) -> None:
        """All of a plain function's questions in one visit of its thread."""
        for name, answer in zip(names, await self._rule.callbacks.call(self._all, names), strict=True):
            try:
                if isinstance(answer, Exception):
                    raise answer
                answers[name] = bool(await answer if inspect.isawaitable(answer) else answer)
            except Exception as error:
                self._failed(error)

    def _all(self, names: Sequence[str]) -> list[Any]:
        found: list[Any] = []
        for name in names:
            try:
                found.append(self._rule.function(self._identity, name))
            except Exception as error:
                found.append(error)
        return found

    def _failed(self, error: Exception) -> None:
        self._rule.callbacks.failed(self._rule.name, "raised")
        LOG.error("%s raised; that is a no for now", self._rule.name, exc_info=error)
