"""A :class:`~stillhere.client.machine.Machine` on asyncio: its clock, its socket, its questions for a token."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from stillhere.client.errors import ClientError, Closed, Refused, Unreachable
from stillhere.client.link import Link
from stillhere.client.machine import Machine
from stillhere.client.outputs import Close, Event, NeedToken, Open, Send
from stillhere.client.protocol import checked_token
from stillhere.client.views import ConnectionStatus

GetToken = Callable[[bool], str | Awaitable[str | None] | None]
"""Gives the token, or None if nobody is logged in. The argument: the last one ends or did not get through, so a cached
one will not do. It must not block; it may be asynchronous."""


class Shell:
    """See the module. One event loop, one thread."""

    def __init__(
        self, machine: Machine, get_token: GetToken, tell: Callable[[Event], None], link_options: dict[str, Any]
    ) -> None:
        """Do nothing yet.

        Args:
            machine: which decides everything.
            get_token: the application's.
            tell: takes what there is to tell.
            link_options: of every :class:`~stillhere.client.link.Link`.
        """
        self._machine = machine
        self._get_token = get_token
        self._tell = tell
        self._link_options = link_options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._link: Link | None = None
        self._asking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._flushing = False
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[ClientError | None]]] = []

    @property
    def started(self) -> bool:
        """Whether ``connect`` was called."""
        return self._loop is not None

    def now(self) -> float:
        """The clock, in seconds."""
        if self._loop is None:
            raise Closed("the client has not been started")
        return self._loop.time()

    # -- what the application does --------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect, and stay connected."""
        self._loop = asyncio.get_running_loop()
        self._machine.connect(self.now())
        self._pump()

    def network_changed(self) -> None:
        """Find out whether the path still lives, or try sooner."""
        if self.started:
            self._machine.network_changed(self.now())
            self._pump()

    async def end(self, *, bye: bool) -> None:
        """Disconnect, with a word or without, and wait until the socket has ended, which is bounded."""
        if not self.started:
            return
        if bye:
            self._machine.disconnect(self.now())
        else:
            self._machine.close(self.now())
        self._pump()
        ending: set[asyncio.Task[None]] = set()
        if self._asking is not None:
            self._asking.cancel()
            ending.add(self._asking)
        if self._link is not None:
            ending.add(self._link.task)
        if ending:
            try:
                await asyncio.wait(ending)
            except asyncio.CancelledError:
                for task in ending:
                    task.cancel()
                raise

    def flush_soon(self) -> None:
        """Send wishes that were noted: those of one breath together; before ``connect`` they only wait."""
        if self._loop is not None and not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    async def until(self, true: Callable[[], bool], timeout: float | None) -> None:
        """Wait until something is so; it is looked at whenever anything has happened.

        Args:
            true: what is to be so, as a question that costs nothing.
            timeout: how long, in seconds; None for as long as it takes.

        Raises:
            Refused, Unreachable, Closed: it is not, or not in time.
        """
        if true():
            return
        if (ending := self.ending()) is not None:
            raise ending
        waiter: asyncio.Future[ClientError | None] = asyncio.get_running_loop().create_future()
        entry = (true, waiter)
        self._waiters.append(entry)
        try:
            async with asyncio.timeout(timeout):
                ending = await waiter
        except TimeoutError:
            fault = self._machine.fault
            why = "" if fault is None else f": {fault.message}"
            raise Unreachable(f"not within {timeout:g} s; the client is {self._machine.status}{why}") from fault
        finally:
            self._waiters.remove(entry)
        if ending is not None:
            raise ending

    def ending(self) -> ClientError | None:
        """Why nothing more comes; None if it does."""
        machine = self._machine
        if machine.status is ConnectionStatus.OFFLINE:
            return Closed("the client is not connected, and nobody wants it to be")
        if machine.status is ConnectionStatus.REFUSED:
            return machine.error if isinstance(machine.error, Refused) else Refused("the client was refused")
        return None

    # -- what a link hears ----------------------------------------------------------------------------------------

    def on_opened(self, attempt: int, subprotocol: str | None) -> None:
        """See :class:`~stillhere.client.link.Heard`."""
        self._machine.opened(attempt, subprotocol, self.now())
        self._pump()

    def on_refused(self, attempt: int, status: int, detail: str, retry_after: float | None) -> None:
        """See :class:`~stillhere.client.link.Heard`."""
        self._machine.upgrade_refused(attempt, status, detail, retry_after, self.now())
        self._pump()

    def on_not_ours(self, attempt: int, what: str) -> None:
        """See :class:`~stillhere.client.link.Heard`."""
        self._machine.not_ours(attempt, what, self.now())
        self._pump()

    def on_received(self, attempt: int, data: bytes) -> None:
        """See :class:`~stillhere.client.link.Heard`."""
        self._machine.received(attempt, data, self.now())
        self._pump()

    def on_ended(self, attempt: int, code: int, reason: str) -> None:
        """See :class:`~stillhere.client.link.Heard`."""
        self._machine.closed(attempt, code, reason, self.now())
        self._pump()

    # -- the machine's will ---------------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._flushing = False
        self._machine.flush(self.now())
        self._pump()

    def _on_timer(self) -> None:
        self._timer = None
        self._machine.handle_timer(self.now())
        self._pump()

    def _pump(self) -> None:
        """Do what the machine wants done, tell what it has to tell, and note when it wants to be woken."""
        for output in self._machine.take():
            if isinstance(output, NeedToken):
                self._ask_for(output)
            elif isinstance(output, Open):
                self._link = Link(self, output, self._link, **self._link_options)
            elif isinstance(output, Send):
                if self._link is not None:
                    self._link.send(output.message)
            elif isinstance(output, Close):
                if self._link is not None:
                    self._link.close(output.code, output.reason)
            else:
                self._tell(output)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._machine.next_deadline()
        if deadline is not None and self._loop is not None:
            self._timer = self._loop.call_at(deadline, self._on_timer)
        self._wake()

    def _ask_for(self, wanted: NeedToken) -> None:
        if self._asking is not None:
            self._asking.cancel()
        self._asking = asyncio.create_task(self._ask(wanted), name="stillhere get_token")

    async def _ask(self, wanted: NeedToken) -> None:
        try:
            given = self._get_token(wanted.renew)
            token = await given if inspect.isawaitable(given) else given
            token = None if token is None else checked_token(token)
        except Exception as cause:
            self._machine.token_failed(wanted.attempt, cause, self.now())
        else:
            self._machine.token(wanted.attempt, token, self.now())
        self._pump()

    def _wake(self) -> None:
        ending = self.ending()
        for true, waiter in self._waiters:
            if waiter.done():
                continue
            # an error is a result here: nobody would retrieve the exception of a waiter that is cancelled just now
            if (found := true()) or ending is not None:
                waiter.set_result(None if found else ending)
