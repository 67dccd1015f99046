"""What is said on a welcomed connection: wishes and their answers, news and what is held of others.

Pure, and without a word about connections: :class:`~stillhere.client.machine.Machine` says when one begins.
"""

from __future__ import annotations

from collections.abc import Callable

from stillhere.client.book import Book
from stillhere.client.errors import ClientError, RequestRefused
from stillhere.client.outputs import Event, Problem, RoomChanged, UsersChanged
from stillhere.client.views import ConnectionStatus, SelfView, Snapshot
from stillhere.client.wants import PAUSE, RETRY, Wants
from stillhere.core.words import Availability
from stillhere.wire.messages import ClientMessage, Error, Ok, Pong, Presence, Room, ServerMessage, WelcomeMessage
from stillhere.wire.messages import Snapshot as SnapshotMessage


class Talk:
    """See the module.

    Attributes:
        book: what is held of others.
        wants: what the application wants.
        room_refusals: joins that the server will not grant, by room.
        timers: when :meth:`due` has something to say, by what it is.
    """

    def __init__(self, tab: str, availability: Availability, random: Callable[[], float]) -> None:
        """Know and want nothing.

        Args:
            tab: the id of this client instance.
            availability: what it says of itself from the beginning.
            random: numbers in [0, 1).
        """
        self.book = Book()
        self.wants = Wants(availability)
        self.room_refusals: dict[str, RequestRefused] = {}
        self.timers: dict[str, float] = {}
        self._tab = tab
        self._random = random
        self._welcome: WelcomeMessage | None = None
        self._last_id = 0

    def next_id(self) -> int:
        """The id of the next request."""
        self._last_id += 1
        return self._last_id

    # -- what is known --------------------------------------------------------------------------------------------

    def me(self) -> SelfView:
        """This client and its user."""
        welcome, wants = self._welcome, self.wants
        if welcome is None:
            return SelfView(self._tab, availability=wants.availability, meta=wants.meta)
        return SelfView(
            self._tab,
            welcome.user,
            welcome.connection_id,
            welcome.session_id,
            welcome.node,
            wants.availability,
            wants.meta,
        )

    def snapshot(self, status: ConnectionStatus, error: ClientError | None) -> Snapshot:
        """All that is known."""
        users = tuple(self.book.user(user) for user in self.wants.users)
        rooms = tuple(self.book.room(room) for room in self.wants.rooms)
        return Snapshot(status, error, self.me(), users, rooms)

    @property
    def fresh(self) -> bool:
        """Whether nothing that is wanted is stale, but for rooms that were refused."""
        return not any(self.book.user(user).stale for user in self.wants.users) and not any(
            self.book.room(room).stale for room in self.wants.rooms if room not in self.room_refusals
        )

    # -- a connection's life --------------------------------------------------------------------------------------

    def ended(self) -> None:
        """There is no connection: everything is stale."""
        self.timers.clear()
        self.book.begin()

    def welcomed(self, welcome: WelcomeMessage) -> None:
        """There is one."""
        if self._welcome is not None and self._welcome.user != welcome.user:
            self.book = Book()  # another may see other things
        self._welcome = welcome
        self.room_refusals.clear()  # whatever is wanted is asked for anew
        self.book.live = True

    def logged_out(self) -> None:
        """Nobody is logged in."""
        self._welcome = None

    # -- what is to be sent ---------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Forget whoever is not wanted any more."""
        self.book.retain(self.wants.users, self.wants.rooms)
        for room in self.room_refusals.keys() - self.wants.rooms.keys():
            del self.room_refusals[room]

    def untold(self, now: float) -> list[ClientMessage]:
        """What the server does not know yet; where that is too much at once, the rest is due later."""
        messages, more = self.wants.untold(self.next_id)
        if more:
            self.timers["flush"] = now + PAUSE
        return messages

    def due(self, now: float) -> list[ClientMessage]:
        """What is to be sent because its time has come."""
        names = [name for name, at in self.timers.items() if at <= now]
        for name in names:
            del self.timers[name]
        if "resync" in names:
            self.wants.resync()
        return self.untold(now) if names else []

    # -- what was heard -------------------------------------------------------------------------------------------

    def heed(self, message: ServerMessage, now: float) -> list[Event]:
        """Take a message of the server.

        Returns:
            What there is to tell of it.
        """
        self.book.live = True
        if isinstance(message, Ok | Pong | SnapshotMessage | Room) and isinstance(message.id, int):
            self.wants.answered(message.id)
        if isinstance(message, Error):
            return self._heed_error(message, now)
        if isinstance(message, SnapshotMessage | Presence):
            return self._heed_users(message, now)
        if isinstance(message, Room) and message.room in self.wants.rooms:
            self.room_refusals.pop(message.room, None)
            changes = self.book.apply_room(message)
            return [RoomChanged(message.room, changes)] if changes else []
        return []

    def _heed_users(self, message: SnapshotMessage | Presence, now: float) -> list[Event]:
        told = message.users if isinstance(message, SnapshotMessage) else message.changes
        changes, new_epoch = self.book.apply_users(one for one in told if one.user in self.wants.users)
        if new_epoch and isinstance(message, Presence):
            # many users are told of one rebuilt store: ask once, and not all clients at the same time
            self.timers.setdefault("resync", now + self._random())
        return [UsersChanged(changes)] if changes else []

    def _heed_error(self, error: Error, now: float) -> list[Event]:
        refused = self.wants.refused(error)
        if refused is None:
            self.timers["flush"] = now + RETRY * (1 + self._random())
            return []
        if refused.request == "join" and refused.room is not None:
            self.room_refusals[refused.room] = refused
        return [Problem(refused)]
