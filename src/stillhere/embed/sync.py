"""The same questions from code that cannot await: Django views, WSGI applications, scripts, worker threads.

Every call is handed to the loop on which the presence runs, and waited for. Where no server runs one (WSGI, a script),
:meth:`SyncPresence.start` runs the presence on a thread of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Self, TypeVar

from stillhere.core.words import Status
from stillhere.embed.errors import NotRunning
from stillhere.http.answers import Diagnostics

if TYPE_CHECKING:
    from stillhere.embed.presence import Presence, Room

T = TypeVar("T")

TIMEOUT = 5.0
"""Seconds that a call may take."""


class SyncPresence:
    """``presence.sync``."""

    def __init__(self, presence: Presence) -> None:
        """Stand in front of a presence."""
        self._presence = presence
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- questions ------------------------------------------------------------------------------------------------

    def status(self, user: str, *, timeout: float = TIMEOUT) -> Status:
        """See :meth:`Presence.status`.

        Raises:
            NotRunning: the presence does not run.
            TimeoutError: there was no answer within ``timeout`` seconds.
            RuntimeError: called on the presence's own event loop, which would wait for itself.
        """
        return self._wait(self._presence.status(user), timeout)

    def statuses(self, users: Iterable[str], *, timeout: float = TIMEOUT) -> dict[str, Status]:
        """See :meth:`Presence.statuses`; raises as :meth:`status` does."""
        return self._wait(self._presence.statuses(users), timeout)

    def room(self, name: str, *, timeout: float = TIMEOUT) -> Room:
        """See :meth:`Presence.room`; raises as :meth:`status` does."""
        return self._wait(self._presence.room(name), timeout)

    def diagnostics(self, user: str, *, timeout: float = TIMEOUT) -> Diagnostics:
        """See :meth:`Presence.diagnostics`; raises as :meth:`status` does."""
        return self._wait(self._presence.diagnostics(user), timeout)

    def disconnect(self, user: str, reason: str = "", *, timeout: float = 2 * TIMEOUT) -> int:
        """See :meth:`Presence.disconnect`; raises as :meth:`status` does."""
        return self._wait(self._presence.disconnect(user, reason), timeout)

    def _wait(self, question: Coroutine[Any, Any, T], timeout: float) -> T:
        loop = self._presence.loop
        try:
            if loop is None:
                raise NotRunning(
                    "the presence does not run in this process: give presence.lifespan to your ASGI application, or "
                    "call presence.sync.start() where there is none"
                )
            if _running_loop() is loop:
                raise RuntimeError("presence.sync would wait for its own event loop: use `await presence.…` here")
        except BaseException:
            question.close()
            raise
        answer = asyncio.run_coroutine_threadsafe(question, loop)
        try:
            return answer.result(timeout)
        except concurrent.futures.TimeoutError:
            answer.cancel()
            raise TimeoutError(f"the presence did not answer within {timeout:g} s") from None

    # -- without a server -----------------------------------------------------------------------------------------

    def start(self, *, timeout: float = 30.0) -> Self:
        """Run the presence on a thread of its own, as one more node of its store; a context manager ends it.

        Raises:
            RuntimeError: it runs already.
            StoreRefused: as from :meth:`Presence.start`.
        """
        if self._presence.loop is not None or self._thread is not None:
            raise RuntimeError("the presence runs already")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stillhere", daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._presence.start(), self._loop).result(timeout)
        except BaseException:
            self._end()
            raise
        return self

    def stop(self, *, timeout: float = 30.0) -> None:
        """Stop what :meth:`start` began; without that, nothing."""
        if self._loop is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(self._presence.stop(), self._loop).result(timeout)
        finally:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _end(self) -> None:
        loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5)
            if not thread.is_alive():
                loop.close()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
