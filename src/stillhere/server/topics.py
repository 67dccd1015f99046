"""What is followed: one topic per user or room that somebody on this node watches.

A topic holds the newest state, encoded once, and its followers. It learns of transitions from the hub in log order
and drops what is not newer than what it has, so that a snapshot and the log may overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from stillhere.core.events import Transition
from stillhere.core.record import Shown, ShownMember
from stillhere.core.words import RoomName, Status, UserId
from stillhere.store.contract import Cursor, RoomSnapshot
from stillhere.wire import frames
from stillhere.wire.messages import RequestId, encode


class Follower(Protocol):
    """A local connection, as topics see it."""

    congested: bool
    """Whether its outbox is full: it is then told what it missed, folded, when there is room again."""

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
    """A room that somebody here follows."""

    __slots__ = (
        "_joined",
        "_parts",
        "_touched",
        "followers",
        "loaded",
        "members",
        "name",
        "pins",
        "places",
        "room",
    )

    def __init__(self, room: RoomName) -> None:
        """Know nothing yet; load it from a snapshot."""
        self.room = room
        self.name = frames.encode_text(room)
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
        """The whole state as one frame; the list of members is encoded once per state."""
        if self._joined is None:
            self._joined = b",".join(self._parts.values())
        return frames.members_frame(self.name, id, self._joined)

    def changes(self) -> list[bytes]:
        """Drain what changed since the last call, folded: of each user the net effect only."""
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

    def _place(self, user: UserId, member: ShownMember, place: Cursor) -> None:
        self._touched.setdefault(user, (user in self.members, place))
        self.members[user] = member
        self._parts[user] = encode(frames.member(user, member, str(place.epoch)))
        self._joined = None

    def _remove(self, user: UserId, place: Cursor) -> None:
        if self.members.pop(user, None) is not None:
            was_in = self._touched[user][0] if user in self._touched else True
            self._touched[user] = (was_in, place)
            del self._parts[user]
            self._joined = None


Topic = UserTopic | RoomTopic
