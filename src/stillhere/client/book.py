"""What is held of others, and the rule by which news replaces it.

Pure: messages go in, the differences that a person may be shown come out. A reconnect changes nothing here but whether
what is held is stale; only what the fresh snapshot reports differently is a difference.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any, Literal, Protocol

import msgspec

from stillhere.client.views import MemberView, PresenceChange, RoomChange, RoomView, UserView
from stillhere.core.words import Status
from stillhere.wire.messages import Member, Room, UserPresence


class Stamp(Protocol):
    """What orders two reports about the same user: ``version`` within an ``epoch``; another epoch is always newer."""

    @property
    def epoch(self) -> str:
        """Of the store."""

    @property
    def version(self) -> int:
        """Grows with every change that watchers can see."""


class _Room:
    __slots__ = ("count", "left", "members", "statuses", "told")

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.left: dict[str, Stamp] = {}
        """Who left, as of which version: an older report must not bring them back."""
        self.told = False
        self.count: int | None = None
        """Of a room that is told by its count; ``members`` are then those who were named last."""
        self.statuses: dict[str, int] = {}


class Book:
    """See the module."""

    def __init__(self) -> None:
        """Know nothing."""
        self.live = False
        """Whether the server can be heard; while it cannot, everything is stale."""
        self._users: dict[str, UserPresence] = {}
        self._rooms: dict[str, _Room] = {}
        self._told: set[str] = set()
        self._past_epochs: set[str] = set()

    def begin(self) -> None:
        """A new connection begins.

        Messages of the old one can no longer arrive, so an epoch that was replaced on it may come back: this client
        may have moved to another node and back.
        """
        self.live = False
        self._told.clear()
        self._past_epochs.clear()
        for room in self._rooms.values():
            room.told = False

    # -- what is held ---------------------------------------------------------------------------------------------

    def user(self, user: str) -> UserView:
        """How a user is shown; ``unknown`` and stale where nothing is known."""
        held = self._users.get(user)
        if held is None:
            return UserView(user)
        return UserView(
            user,
            shown_status(held.status),
            not (self.live and user in self._told),
            held.changed_at,
            held.last_seen_at,
            held.info,
            held.meta,
        )

    def room(self, name: str) -> RoomView:
        """A room, with its members."""
        room = self._rooms.get(name)
        if room is None:
            return RoomView(name)
        stale = not (self.live and room.told)
        if room.count is not None:
            return RoomView(name, (), stale, room.count, room.statuses)
        return RoomView(name, tuple(map(_member_view, room.members.values())), stale, len(room.members))

    # -- news -----------------------------------------------------------------------------------------------------

    def apply_users(self, users: Iterable[UserPresence]) -> tuple[list[PresenceChange], bool]:
        """Take a snapshot, or live changes.

        Returns:
            The differences, and whether a user came under an epoch that was not seen before: the store was rebuilt, and
            what else is held may be out of date.
        """
        changes: list[PresenceChange] = []
        new_epoch = False
        for report in users:
            held = self._users.get(report.user)
            before = None if held is None else self.user(report.user)
            if not self._take(held, report):
                continue
            if held is not None:
                new_epoch |= shown_status(held.status) is not Status.UNKNOWN and held.epoch != report.epoch
                if looks(held) == looks(report):
                    continue
            changes.append(PresenceChange(report.user, before, self.user(report.user)))
        return changes, new_epoch

    def apply_room(self, message: Room) -> list[RoomChange]:
        """Take a room's state or a change of it: leaves first, then joins, then updates.

        While a room is told by its count there are no differences; who was there before and after is one when it is
        told by names again.
        """
        room = self._rooms.setdefault(message.room, _Room())
        changes: list[RoomChange] = []
        if message.count is not None:
            room.told, room.count, room.statuses = True, message.count, message.statuses or {}
            return changes
        if message.members is not None:
            room.told, room.count = True, None
            here = {member.user for member in message.members}
            for gone in [member for user, member in room.members.items() if user not in here]:
                del room.members[gone.user]
                changes.append(_change("left", gone))
        for leave in message.leaves or ():
            before = room.members.get(leave.user)
            if self._is_newer(before or room.left.get(leave.user), leave):
                room.left[leave.user] = leave
                if before is not None:
                    del room.members[leave.user]
                    changes.append(_change("left", before))
        for member in (*(message.members or ()), *(message.joins or ()), *(message.updates or ())):
            changes += self._put_member(room, member)
        return changes

    def retain(self, users: Container[str], rooms: Container[str]) -> None:
        """Forget whoever is not wanted any more."""
        for user in [user for user in self._users if user not in users]:
            del self._users[user]
        self._told = {user for user in self._told if user in users}
        for name in [name for name in self._rooms if name not in rooms]:
            del self._rooms[name]

    # -- the rule -------------------------------------------------------------------------------------------------

    def _take(self, held: UserPresence | None, report: UserPresence) -> bool:
        """Hold a report if it is news. ``unknown`` never replaces knowledge; it only casts doubt on it."""
        user = report.user
        if shown_status(report.status) is Status.UNKNOWN:
            self._told.discard(user)
            if held is not None:
                return False
        elif held is None or shown_status(held.status) is Status.UNKNOWN or self._is_newer(held, report):
            self._told.add(user)
        else:
            if (held.epoch, held.version) == (report.epoch, report.version):
                self._told.add(user)
            return False
        self._replaced(held, report)
        self._users[user] = report
        return True

    def _put_member(self, room: _Room, member: Member) -> Sequence[RoomChange]:
        before = room.members.get(member.user)
        if not self._is_newer(before or room.left.get(member.user), member):
            return ()
        room.left.pop(member.user, None)
        self._replaced(before, member)
        room.members[member.user] = member
        if before is None:
            return (_change("joined", member),)
        return (_change("updated", member),) if looks(before) != looks(member) else ()

    def _is_newer(self, held: Stamp | None, report: Stamp) -> bool:
        """Within an epoch the greater version is newer; another epoch always is, and one that was replaced never again.

        Epochs are compared by inequality alone: their order says nothing (``docs/protocol.md``, section 1.3).
        """
        if held is None:
            return True
        if held.epoch == report.epoch:
            return report.version > held.version
        return report.epoch not in self._past_epochs

    def _replaced(self, held: Stamp | None, report: Stamp) -> None:
        if held is not None and held.epoch and held.epoch != report.epoch:
            self._past_epochs.add(held.epoch)


def shown_status(word: str) -> Status:
    """The status that a word of the wire stands for; one that this version does not know tells nothing."""
    try:
        return Status(word)
    except ValueError:
        return Status.UNKNOWN


def looks(one: UserPresence | Member) -> tuple[Any, ...]:
    """What a person may see of it. Of somebody who is here, when they were last away is nothing that is shown."""
    if isinstance(one, Member):
        return one.status, one.info, msgspec.to_builtins(one.metas)
    return one.status, one.status == Status.OFFLINE and one.last_seen_at, one.info, one.meta


def _change(kind: Literal["joined", "left", "updated"], member: Member) -> RoomChange:
    return RoomChange(kind, _member_view(member))


def _member_view(member: Member) -> MemberView:
    metas = {one.connection_id: one.meta for one in member.metas or ()}
    return MemberView(member.user, shown_status(member.status), member.joined_at, member.info, metas)
