"""What is followed: one topic per user or room that somebody on this node watches.

A topic holds the newest state, encoded once, and its followers. It learns of transitions from the hub in log order
and drops what is not newer than what it has, so that a snapshot and the log may overlap.
"""

from __future__ import annotations

from typing import Protocol

from stillhere.core.events import Transition
from stillhere.core.record import Shown, ShownMember
from stillhere.core.words import RoomName, UserId
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

    def catch_up(self, follower: Follower) -> None:
        """Send the newest state to one who missed something."""
        follower.send(frames.presence_frame((self.part,)))


class RoomTopic:
    """A room that somebody here follows."""

    __slots__ = (
        "_joined",
        "_parts",
        "_touched",
        "epoch",
        "followers",
        "loaded",
        "members",
        "name",
        "pins",
        "room",
        "seq",
    )

    def __init__(self, room: RoomName) -> None:
        """Know nothing yet; load it from a snapshot."""
        self.room = room
        self.name = frames.encode_text(room)
        self.followers: set[Follower] = set()
        self.pins = 0
        self.loaded = False
        self.epoch = ""
        self.seq = 0
        """Everything up to this place of the log is in ``members``."""
        self.members: dict[UserId, ShownMember] = {}
        self._parts: dict[UserId, bytes] = {}
        self._joined: bytes | None = None
        self._touched: dict[UserId, tuple[bool, int]] = {}
        """Who changed since the last flush: whether they were in at that time, and the version of a leave."""

    def load(self, members: dict[UserId, ShownMember], epoch: str, seq: int) -> None:
        """Take a snapshot, and note what it changes for those who follow already."""
        if self.loaded and epoch == self.epoch and seq < self.seq:
            return
        renewed = epoch != self.epoch
        for user in [user for user in self.members if user not in members]:
            self._remove(user, seq)
        self.epoch, self.seq = epoch, seq
        for user, member in members.items():
            if renewed or self.members.get(user) != member:
                self._place(user, member)
        if not self.loaded:
            self._touched.clear()
            self.loaded = True

    def apply(self, transition: Transition, epoch: str) -> bool:
        """Take a transition of the log; returns whether the followers have to be told."""
        if not self.loaded or (epoch == self.epoch and transition.version <= self.seq):
            return False
        self.epoch, self.seq = epoch, transition.version
        if transition.member is not None:
            self._place(transition.user, transition.member)
        else:
            self._remove(transition.user, transition.version)
        return bool(self._touched)

    def snapshot(self, id: RequestId = None) -> bytes:
        """The whole state as one frame; the list of members is encoded once per state."""
        if self._joined is None:
            self._joined = b",".join(self._parts.values())
        return frames.members_frame(self.name, id, self._joined)

    def changes(self) -> list[bytes]:
        """Drain what changed since the last call, folded: of each user the net effect only."""
        leaves, joins, updates = [], [], []
        for user, (was_in, version) in self._touched.items():
            part = self._parts.get(user)
            if part is None:
                if was_in:
                    leaves.append(encode(frames.left_member(user, version, self.epoch)))
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

    def _place(self, user: UserId, member: ShownMember) -> None:
        self._touched.setdefault(user, (user in self.members, 0))
        self.members[user] = member
        self._parts[user] = encode(frames.member(user, member, self.epoch))
        self._joined = None

    def _remove(self, user: UserId, version: int) -> None:
        if self.members.pop(user, None) is not None:
            was_in = self._touched.get(user, (True, 0))[0]
            self._touched[user] = (was_in, version)
            del self._parts[user]
            self._joined = None


Topic = UserTopic | RoomTopic
