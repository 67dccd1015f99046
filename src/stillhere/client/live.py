"""The client, as an application sees it."""

from __future__ import annotations

import logging
import secrets
import ssl
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, TypeVar
from weakref import WeakSet

from stillhere.client.errors import ClientError, Refused, RequestRefused
from stillhere.client.feed import Feed, presence_feed, status_feed
from stillhere.client.machine import Machine
from stillhere.client.outputs import Event, RoomChanged, StatusChanged, UsersChanged
from stillhere.client.protocol import checked_token
from stillhere.client.rooms import Room
from stillhere.client.shell import GetToken, Shell
from stillhere.client.views import ConnectionStatus, PresenceChange, RoomView, SelfView, Snapshot, UserView
from stillhere.core.words import Availability, Status

_LOG = logging.getLogger("stillhere.client")

T = TypeVar("T")

_ENDINGS = (ConnectionStatus.OFFLINE, ConnectionStatus.REFUSED)


def connect(
    url: str,
    *,
    token: str | None = None,
    get_token: GetToken | None = None,
    tab: str | None = None,
    availability: Availability | str = Availability.ACTIVE,
    open_timeout: float = 20.0,
    on_problem: Callable[[ClientError], object] | None = None,
    tls: ssl.SSLContext | None = None,
    proxy: str | Literal[True] | None = True,
    headers: Mapping[str, str] | None = None,
) -> Client:
    """Be present, and see who else is: ``async with connect(url, token=…) as me``.

    Args:
        url: of the server: ``https://example.com``, or of its socket: ``wss://example.com/ws``.
        token: who this is, for a client that need not outlive it.
        get_token: called before each connection and before a token ends; exactly one of the two is given.
        tab: the id of this client, kept across reconnects; made up if not given. A program that is to be the same
            client after a restart gives the same one.
        availability: what this client says of itself from the beginning.
        open_timeout: how long entering the context waits to be online, in seconds; 0 does not wait at all.
        on_problem: told what went wrong that the client gets over by itself; else it is logged.
        tls: for ``wss://``; the system's certificates unless given.
        proxy: True for the system's, None for none, or its address.
        headers: further ones of the upgrade.

    Raises:
        Misused: a url, a token or a word that cannot be; nothing is sent.
    """
    if (token is None) == (get_token is None):
        raise TypeError("connect() takes either token= or get_token=")
    fixed = None if token is None else checked_token(token)
    machine = Machine(
        url,
        tab=tab or secrets.token_urlsafe(16),
        availability=Availability(availability),
        renewable=get_token is not None,
    )
    return Client(
        machine,
        get_token or (lambda _: fixed),
        open_timeout=open_timeout,
        on_problem=on_problem,
        tls=tls,
        proxy=proxy,
        headers=headers or {},
    )


class Client:
    """A connection that comes back; made by :func:`connect`. One event loop, one thread."""

    def __init__(
        self,
        machine: Machine,
        get_token: GetToken,
        *,
        open_timeout: float,
        on_problem: Callable[[ClientError], object] | None,
        tls: ssl.SSLContext | None,
        proxy: str | Literal[True] | None,
        headers: Mapping[str, str],
    ) -> None:
        """See :func:`connect`."""
        self._machine = machine
        self._talk = machine.talk
        self._open_timeout = open_timeout
        self._on_problem = on_problem
        self._presence: WeakSet[Feed[PresenceChange]] = WeakSet()
        self._statuses: WeakSet[Feed[ConnectionStatus]] = WeakSet()
        self._rooms: WeakSet[Room] = WeakSet()
        self._shell = Shell(machine, get_token, self._tell, {"tls": tls, "proxy": proxy, "headers": headers})

    # -- life -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Client:
        """Connect, and wait to be online (``open_timeout``).

        Raises:
            Refused: the server will not have this client.
            Unreachable: it is not online in time; the message says why.
        """
        self.connect()
        if self._open_timeout > 0:
            try:
                await self.online(self._open_timeout)
            except BaseException:
                await self.close()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def connect(self) -> None:
        """Connect, and stay connected. Nothing if that is so already; begins anew if refused or disconnected."""
        self._shell.connect()

    async def disconnect(self) -> None:
        """Log out: leave at once, and let everybody see it. To go for a while, :meth:`close` is enough."""
        await self._shell.end(bye=True)

    async def close(self) -> None:
        """Go without a word: the user stays shown for the server's grace window, as after a reload."""
        await self._shell.end(bye=False)

    # -- what is known --------------------------------------------------------------------------------------------

    @property
    def status(self) -> ConnectionStatus:
        """How the connection stands."""
        return self._machine.status

    @property
    def error(self) -> ClientError | None:
        """Why it is refused, or what the server said last about the token."""
        return self._machine.error

    @property
    def fault(self) -> ClientError | None:
        """Why the last attempt to connect did not succeed; None once one has."""
        return self._machine.fault

    @property
    def identity(self) -> SelfView:
        """This client and its user."""
        return self._talk.me()

    @property
    def retry_in(self) -> float | None:
        """In how many seconds the next attempt begins; None while none is planned."""
        at = self._machine.retry_at
        return None if at is None else max(0.0, at - self._shell.now())

    def get(self, user: str) -> UserView:
        """How a user is shown; ``unknown`` and stale if nothing is known of them."""
        return self._talk.book.user(user)

    def room(self, room: str) -> RoomView:
        """A room that was joined, with its members."""
        return self._talk.book.room(room)

    def refusal_of(self, room: str) -> RequestRefused | None:
        """Why the server does not let this client into a room; None if it does, or has not said."""
        return self._talk.room_refusals.get(room)

    def snapshot(self) -> Snapshot:
        """All that is known."""
        return self._talk.snapshot(self.status, self.error)

    # -- what is wanted; all of it survives reconnects ------------------------------------------------------------

    def watch(self, users: str | Iterable[str]) -> None:
        """Follow users, one id or several; each is followed until :meth:`unwatch` was called as often.

        Raises:
            BadId: one of them is no user id.
        """
        self._talk.wants.watch([users] if isinstance(users, str) else users)
        self._shell.flush_soon()

    def unwatch(self, users: str | Iterable[str]) -> None:
        """Let go of users."""
        self._talk.wants.unwatch([users] if isinstance(users, str) else users)
        self._shell.flush_soon()

    def join(self, room: str, meta: Mapping[str, Any] | None = None) -> Room:
        """Be present in a room, and follow who is in it; ``async with`` waits for its members, and leaves it.

        Args:
            room: its name.
            meta: what this connection says of itself there; the newest call counts.

        Raises:
            BadId, BadMeta: nothing is sent.
        """
        self._talk.wants.join(room, meta)
        self._shell.flush_soon()
        handle = Room(self, room)
        self._rooms.add(handle)
        return handle

    def leave(self, room: str) -> None:
        """Leave a room, when this was called as often as :meth:`join`."""
        self._talk.wants.leave(room)
        self._shell.flush_soon()

    def set_room_meta(self, room: str, meta: Mapping[str, Any]) -> None:
        """Say something else in a room that was joined.

        Raises:
            BadMeta: nothing is sent.
        """
        self._talk.wants.set_room_meta(room, meta)
        self._shell.flush_soon()

    def set_availability(self, availability: Availability | str) -> None:
        """Say what this client is: ``active``, ``away``, ``busy`` or ``invisible``.

        Raises:
            ValueError: there is no such word.
        """
        self._machine.set_availability(availability)
        self._shell.flush_soon()

    def set_meta(self, patch: Mapping[str, Any]) -> None:
        """Say something about this client to all who watch the user: merged shallowly, None deletes a key.

        Raises:
            BadMeta: nothing is sent.
        """
        self._talk.wants.set_meta(patch)
        self._shell.flush_soon()

    def network_changed(self) -> None:
        """The network has changed or is back: find out whether the path still lives, or try sooner."""
        self._shell.network_changed()

    # -- what comes -----------------------------------------------------------------------------------------------

    def __aiter__(self) -> Feed[PresenceChange]:
        """Iterate over changes of the watched users, beginning with how they are shown now.

        Ends when the client is closed, and raises :class:`Refused` when the server refuses it.
        """
        known = (self.get(user) for user in self._talk.wants.users)
        told = [PresenceChange(view.user, None, view) for view in known if view.changed_at is not None]
        feed = presence_feed(change for change in told if change.now.status is not Status.UNKNOWN)
        self._presence.add(feed)
        return self.begun(feed)

    def statuses(self) -> Feed[ConnectionStatus]:
        """Iterate over how the connection stands, beginning with now."""
        feed = status_feed(self.status)
        self._statuses.add(feed)
        return self.begun(feed)

    async def online(self, timeout: float = 20.0) -> None:
        """Wait to be online.

        Args:
            timeout: how long, in seconds.

        Raises:
            Refused, Unreachable, Closed: it is not, or not in time.
        """
        await self.until(lambda: self.status is ConnectionStatus.ONLINE, timeout)

    async def fresh(self, timeout: float = 20.0) -> None:
        """Wait until everything that is wanted was told on this connection: nothing is stale.

        Args:
            timeout: how long, in seconds.

        Raises:
            Refused, Unreachable, Closed: it is not, or not in time.
        """
        await self.until(lambda: self.status is ConnectionStatus.ONLINE and self._talk.fresh, timeout)

    async def until(self, true: Callable[[], bool], timeout: float | None) -> None:
        """Wait until something is so; it is looked at whenever anything has happened.

        Args:
            true: what is to be so, as a question that costs nothing.
            timeout: how long, in seconds; None for as long as it takes.

        Raises:
            Refused, Unreachable, Closed: it is not, or not in time.
        """
        await self._shell.until(true, timeout)

    def begun(self, feed: Feed[T]) -> Feed[T]:
        """A feed of a client that has ended ends."""
        if self._shell.started and self.status in _ENDINGS:
            feed.end(self._refusal())
        return feed

    # -- what the machine tells -----------------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        if isinstance(event, UsersChanged):
            for feed in self._presence:
                for change in event.changes:
                    feed.put(change)
        elif isinstance(event, RoomChanged):
            for room in self._rooms:
                if room.name == event.room:
                    room.put(event.changes)
        elif isinstance(event, StatusChanged):
            self._tell_status(event.status)
        else:
            self._tell_problem(event.error)

    def _tell_status(self, status: ConnectionStatus) -> None:
        for statuses in self._statuses:
            statuses.put(status)
        if status in _ENDINGS:
            error = self._refusal()
            for feed in self._presence:
                feed.end(error)
            for statuses in self._statuses:
                statuses.end(error)
            for room in self._rooms:
                room.end(error)

    def _tell_problem(self, error: ClientError) -> None:
        if isinstance(error, RequestRefused) and error.request == "join":
            for room in self._rooms:
                if room.name == error.room:
                    room.end(error)
        if self._on_problem is None:
            _LOG.warning("%s", error)
            return
        try:
            self._on_problem(error)
        except Exception:
            _LOG.exception("on_problem raised")

    def _refusal(self) -> Refused | None:
        ending = self._shell.ending()
        return ending if isinstance(ending, Refused) else None
