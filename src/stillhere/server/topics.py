"""What is followed: one topic per user or room that somebody on this node watches.

A topic holds the newest state, encoded once, and its followers. It learns of transitions from the hub in log order
and drops what is not newer than what it has, so that a snapshot and the log may overlap.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from math import inf
from typing import Protocol

from stillhere.core.events import Transition
from stillhere.core.record import Shown, ShownMember
from stillhere.core.words import RoomName, Status, UserId
from stillhere.server.socket import Socket
from stillhere.store.contract import Cursor, RoomSnapshot
from stillhere.wire import frames
from stillhere.wire.messages import PAGE, RequestId, encode

COUNT_ONLY_ABOVE = 1000
"""Members above which a room is told by its count, if nothing else is said."""

NAMED_AGAIN = 0.8
"""Part of that number at which a room is told by names again: one around the number must not go to and fro."""

COUNT_EVERY = 1.0
"""Seconds between two counts that the members of a room are told."""

_NOBODY = dict.fromkeys(Status, 0)
"""With every status, so that counts that say the same are equal; a ``Counter`` would take 20 times as long to make."""


class Follower(Protocol):
    """A local connection, as topics see it."""

    congested: bool
    """Whether its outbox is full: it is then told what it missed, folded, when there is room again."""

    socket: Socket | None
    """Where its frames go: a broadcast gives each the first one directly. None once it has ended."""

    def send(self, frame: bytes) -> None:
        """Send one frame."""
        ...

    def miss(self, topic: UserTopic | RoomTopic) -> None:
        """Note that something changed while there was no room."""
        ...


class UserTopic:
    """A user whom somebody here follows."""

    __slots__ = ("epoch", "followers", "loaded", "part", "pins", "shown", "user")

    def __init__(self, user: UserId) -> None:
        """Know nothing yet; load it from a snapshot."""
        self.user = user
        self.followers: set[Follower] = set()
        self.pins = 0
        """Requests that wait for it: it must not be dropped."""
        self.loaded = False
        self.epoch = ""
        self.shown: Shown | None = None
        self.part = b""
        """The encoded ``UserPresence``."""

    def update(self, shown: Shown, epoch: str) -> bool:
        """Take a state if it is newer; returns whether it was."""
        old = self.shown
        if old is not None and epoch == self.epoch and shown.version <= old.version:
            return False
        self.shown, self.epoch = shown, epoch
        self.part = encode(frames.user_presence(self.user, shown, epoch))
        return True

    @property
    def seen_off(self) -> bool:
        """Whether the last that is known is that the user is offline."""
        return self.shown is not None and self.shown.status is Status.OFFLINE

    def catch_up(self, follower: Follower) -> None:
        """Send the newest state to one who missed something."""
        follower.send(frames.presence_frame((self.part,)))


class RoomTopic:
    """A room that somebody here follows.

    A large one is *counted*: its followers are told how many are in it, at a bounded rate, and read the names page by
    page if they want them. Every join of a crowd would otherwise be told to all the others: n people, n² messages.
    """

    __slots__ = (
        "_counted_at",
        "_joined",
        "_most",
        "_order",
        "_parts",
        "_statuses",
        "_told",
        "_touched",
        "counted",
        "followers",
        "loaded",
        "members",
        "pins",
        "places",
        "room",
    )

    def __init__(self, room: RoomName, count_only_above: int = COUNT_ONLY_ABOVE) -> None:
        """Know nothing yet; load it from a snapshot.

        Args:
            room: its name.
            count_only_above: members above which it is counted.
        """
        self.room = room
        self.followers: set[Follower] = set()
        self.pins = 0
        self.loaded = False
        self.places: dict[int, Cursor] = {}
        """Everything up to these places of the logs is in ``members``."""
        self.members: dict[UserId, ShownMember] = {}
        self._parts: dict[UserId, bytes] = {}
        self._joined: bytes | None = None
        self._touched: dict[UserId, tuple[bool, Cursor]] = {}
        """Who changed since the last flush: whether they were in at that time, and the place of a leave."""
        self.counted = False
        """Whether followers are told the count alone."""
        self._most = count_only_above
        self._statuses: dict[Status, int] | None = None
        """How many of each there are; kept while the room is counted."""
        self._told: dict[Status, int] | None = None
        """The count that all followers have; None if they may not have the same."""
        self._counted_at = -inf
        self._order: list[UserId] | None = None
        """The members by id; made when somebody reads a page."""

    @property
    def name(self) -> bytes:
        """The name, encoded."""
        return frames.encode_text(self.room)

    @property
    def statuses(self) -> dict[Status, int]:
        """How many members have each status, 0 included."""
        if self._statuses is None:
            self._statuses = _NOBODY.copy()
            for member in self.members.values():
                self._statuses[member.status] += 1
        return self._statuses

    def load(self, snapshot: RoomSnapshot, partition_of: Callable[[UserId], int]) -> bool:
        """Take a snapshot, and note what it changes for those who follow already.

        Of a partition of which more is known already, nothing is taken.

        Returns:
            False when somebody was left out who may have gone already, in an epoch that was lost: look again.
        """
        sure = True
        new = {
            p: place
            for p, place in snapshot.cursors.items()
            if not (self.loaded and p in self.places and self.places[p].epoch == place.epoch)
            or place.seq >= self.places[p].seq
        }
        renewed = {p for p, place in new.items() if p not in self.places or self.places[p].epoch != place.epoch}
        members = snapshot.members
        if snapshot.complete:
            for user in [user for user in self.members if user not in members and partition_of(user) in new]:
                self._remove(user, new[partition_of(user)])
        self.places = {**self.places, **new}
        for user, member in members.items():
            p = partition_of(user)
            doubtful = user in snapshot.doubtful and self.loaded and user not in self.members
            sure = sure and not doubtful
            if p in new and not doubtful and (p in renewed or self.members.get(user) != member):
                self._place(user, member, new[p])
        if not self.loaded:
            self._touched.clear()
            self.loaded = True
            self.counted = len(self.members) > self._most
        return sure

    def apply(self, transition: Transition, epoch: int, partition: int) -> bool:
        """Take a transition of the log; returns whether the followers have to be told."""
        known = self.places.get(partition)
        if not self.loaded or (known is not None and epoch == known.epoch and transition.version <= known.seq):
            return False
        self.places[partition] = place = Cursor(epoch, transition.version)
        if transition.member is not None:
            self._place(transition.user, transition.member, place)
        else:
            self._remove(transition.user, place)
        return bool(self._touched)

    def snapshot(self, id: RequestId = None) -> bytes:
        """The whole state as one frame, or the count; the list of members is encoded once per state."""
        if self.counted:
            self._differs()
            return frames.count_frame(self.name, self.statuses, id=id)
        if self._joined is None:
            self._joined = b",".join(self._parts.values())
        return frames.members_frame(self.name, id, self._joined)

    def page(self, id: RequestId = None, cursor: str = "", limit: int = PAGE) -> bytes:
        """The answer to one follower: the whole state, or the count and some of the members.

        Args:
            id: of the request.
            cursor: begin after this id.
            limit: how many members at most; fewer where they are long.
        """
        if not self.counted:
            return self.snapshot(id)
        if self._order is None:
            self._order = sorted(self.members)
        self._differs()
        order, start = self._order, bisect_right(self._order, UserId(cursor))
        parts: list[bytes] = []
        size = 0
        for user in order[start : start + limit]:
            size += len(self._parts[user])
            if parts and size > frames.FRAME_BYTES:
                break
            parts.append(self._parts[user])
        end = start + len(parts)
        following = order[end - 1] if 0 < end < len(order) else None
        return frames.count_frame(self.name, self.statuses, id=id, page=parts, cursor=following)

    def wait(self, now: float) -> float:
        """Seconds for which :meth:`changes` must not be told yet; 0 or less if it may.

        Args:
            now: on the clock of ``changes``, in seconds.
        """
        return self._counted_at + COUNT_EVERY - now if self.counted and not self._few else 0.0

    def changes(self, now: float = 0.0) -> list[bytes]:
        """Drain what changed since the last call, folded: of each user the net effect only, or of all the count.

        Args:
            now: a clock that does not go back, in seconds.
        """
        if self.counted and self._few:
            self.counted, self._told, self._statuses = False, None, None
            self._touched.clear()
            return [self.snapshot()]
        if self.counted or len(self.members) > self._most:
            self._touched.clear()
            statuses = self.statuses
            if self.counted and self._told == statuses:
                return []
            self.counted, self._told, self._counted_at = True, statuses.copy(), now
            return [frames.count_frame(self.name, statuses)]
        leaves, joins, updates = [], [], []
        for user, (was_in, place) in self._touched.items():
            part = self._parts.get(user)
            if part is None:
                if was_in:
                    leaves.append(encode(frames.left_member(user, place.seq, str(place.epoch))))
            elif was_in:
                updates.append(part)
            else:
                joins.append(part)
        self._touched.clear()
        if not (leaves or joins or updates):
            return []
        return frames.room_frames(self.name, leaves, joins, updates)

    def catch_up(self, follower: Follower) -> None:
        """Send the whole state to one who missed something."""
        follower.send(self.snapshot())

    @property
    def _few(self) -> bool:
        return len(self.members) <= self._most * NAMED_AGAIN

    def _differs(self) -> None:
        """One follower is told the count of now: if it is not that of the others, all are told at the next flush."""
        if self._told != self.statuses:
            self._told = None

    def _place(self, user: UserId, member: ShownMember, place: Cursor) -> None:
        before = self.members.get(user)
        self._touched.setdefault(user, (before is not None, place))
        if before is None and self._order is not None:
            insort(self._order, user)
        if self._statuses is not None:
            self._statuses[member.status] += 1
            if before is not None:
                self._statuses[before.status] -= 1
        self.members[user] = member
        self._parts[user] = encode(frames.member(user, member, str(place.epoch)))
        self._joined = None

    def _remove(self, user: UserId, place: Cursor) -> None:
        member = self.members.pop(user, None)
        if member is not None:
            if self._statuses is not None:
                self._statuses[member.status] -= 1
            if self._order is not None:
                del self._order[bisect_left(self._order, user)]
            was_in = self._touched[user][0] if user in self._touched else True
            self._touched[user] = (was_in, place)
            del self._parts[user]
            self._joined = None


Topic = UserTopic | RoomTopic
