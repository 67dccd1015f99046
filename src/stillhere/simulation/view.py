"""What a watcher makes of what it is sent, by the rules of the protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillhere.wire.messages import Member, Presence, Room, Snapshot, UserPresence

if TYPE_CHECKING:
    from stillhere.simulation.client import Wire
    from stillhere.simulation.world import World


class View:
    """See the module."""

    def __init__(self, world: World, name: str, users: list[str], rooms: list[str]) -> None:
        """Know nothing yet."""
        self.world = world
        self.name = name
        self.following = users
        self.rooms_followed = rooms
        self.users: dict[str, UserPresence] = {}
        self.rooms: dict[str, dict[str, Member]] = {}
        self._on: Wire | None = None
        self._epochs: dict[str, list[str]] = {}
        self._seen: dict[str, int] = {}

    def follow(self, wire: Wire) -> None:
        """A new connection: what was known is replaced by what its snapshots say."""
        self._on = wire
        self._epochs, self._seen = {}, {}
        self.users, self.rooms = {}, {}
        wire.say("watch", users=self.following)

    def take(self, wire: Wire, message: Presence | Snapshot | Room) -> None:
        """A frame."""
        self.world.report.frames += 1
        if wire is not self._on:
            return
        if isinstance(message, Room):
            self._room(message)
            return
        for told in message.users if isinstance(message, Snapshot) else message.changes:
            if told.status != "unknown":
                self._order(told.user, told)
                self.users[told.user] = told
            self.world.inspector.shown_to(self, wire, told)

    def _room(self, message: Room) -> None:
        members = self.rooms.setdefault(message.room, {})
        if message.members is not None:
            members.clear()
        for member in message.leaves or ():
            members.pop(member.user, None)
        for member in (*(message.members or ()), *(message.joins or ()), *(message.updates or ())):
            self._order(f"{member.user} in {message.room}", member)
            members[member.user] = member

    def _order(self, key: str, told: UserPresence | Member) -> None:
        """Versions never go back, and no epoch comes back."""
        epochs = self._epochs.setdefault(key, [])
        if not epochs or epochs[-1] != told.epoch:
            if told.epoch in epochs:
                self.world.inspector.broken("I3", f"{self.name} was sent epoch {told.epoch} of {key} again", told.user)
            epochs.append(told.epoch)
        elif told.version < self._seen[key]:
            self.world.inspector.broken(
                "I3", f"{self.name} was sent version {told.version} of {key} after {self._seen[key]}", told.user
            )
        self._seen[key] = told.version
