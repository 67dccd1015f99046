"""A small world: nodes, one ledger, a clock set by hand, and somebody who watches and minds the promises.

Every action is followed by what a node does at the end of a loop turn (it tells the store what changed) and by a check
of all invariants. A node may be told to keep back what it has to say, or to lose the store's replies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillhere.core.clock import ClockLimits
from stillhere.core.connection import Connection
from stillhere.core.events import (
    Change,
    Entry,
    Event,
    Given,
    GraceCancelled,
    GraceExpired,
    GraceStarted,
    Returned,
    Transition,
)
from stillhere.core.grace import GracePolicy
from stillhere.core.leases import Answer, Limits
from stillhere.core.ledger import Ledger
from stillhere.core.record import Grace, Record, Shown, ShownMember
from stillhere.core.roster import Order, Roster
from stillhere.core.words import (
    Availability,
    Cause,
    ConnectionId,
    Incarnation,
    Phase,
    ReadyState,
    RoomName,
    SessionId,
    Status,
    TabId,
    UserId,
)

ALICE = UserId("alice")
START = 1024.0
"""Instants of tests are multiples of 1/8 s, which floats hold exactly."""
LEASE = 15.0
BEAT = 5.0


def fresh(name: str) -> str:
    """As a name comes from the wire: equal to others, and never the same object."""
    return name.encode().decode()


class Watcher:
    """Follows everything from the start, as a client does, and complains of what a client could not make sense of."""

    def __init__(self) -> None:
        self.users: dict[UserId, Shown] = {}
        self.rooms: dict[RoomName, dict[UserId, ShownMember]] = {}
        self.seen: list[Transition] = []
        self.version = 0
        self.outlives = False
        """Whether the store may begin anew, and then tell again what was told before."""

    def apply(self, told: Transition) -> None:
        assert told.version == self.version + 1, f"version {told.version} after {self.version}"
        self.version = told.version
        self.seen.append(told)
        if told.room is None:
            self._apply_user(told)
        else:
            self._apply_room(told, told.room)

    def _apply_user(self, told: Transition) -> None:
        shown, before = told.shown, self.users.get(told.user)
        assert shown is not None and shown.version == told.version and shown.changed_at == told.at
        was = Status.OFFLINE if before is None else before.status
        if told.change is Change.ONLINE:
            assert was is Status.OFFLINE and shown.status is not Status.OFFLINE, "ONLINE and OFFLINE alternate"
        elif told.change is Change.OFFLINE:
            assert was is not Status.OFFLINE and shown.status is Status.OFFLINE, "ONLINE and OFFLINE alternate"
        else:
            assert told.change is Change.UPDATED
            assert was is not Status.OFFLINE and shown.status is not Status.OFFLINE
            changes = before is not None and not shown.looks_like(before)
            assert changes or self.outlives, "an update that changes nothing"
        assert shown.status is not Status.UNKNOWN
        assert shown.status is not Status.OFFLINE or shown.last_seen_at is not None
        self.users[told.user] = shown

    def _apply_room(self, told: Transition, room: RoomName) -> None:
        members = self.rooms.setdefault(room, {})
        if told.change is Change.LEFT:
            assert told.member is None
            del members[told.user]
            return
        assert told.member is not None and told.member.version == told.version
        assert (told.user in members) is (told.change is Change.MEMBER)
        members[told.user] = told.member


class Node:
    """A server process: its roster, and how well it reaches the store."""

    def __init__(self, name: str, roster: Roster) -> None:
        self.name = name
        self.roster = roster
        self.incarnation = Incarnation(name)
        self.alive = True
        self.beaten = START
        self.delayed = False
        """Keeps back what it has to tell."""
        self.deaf = False
        """Its requests arrive, the replies do not."""


class World:
    """Nodes, ledger, clock and watcher."""

    def __init__(
        self,
        windows: Mapping[Cause, float] | None = None,
        *,
        nodes: tuple[str, ...] = ("n1",),
        handshake_timeout: float = 5.0,
        close_timeout: float = 5.0,
        limits: Limits | None = None,
    ) -> None:
        self.now = START
        self.policy = GracePolicy.of(overrides=windows)
        self.ledger = Ledger(limits or Limits(clock=ClockLimits()))
        self.ledger.hello(self.now, "run-1")
        self.nodes = {
            name: Node(name, Roster(self.policy, handshake_timeout=handshake_timeout, close_timeout=close_timeout))
            for name in nodes
        }
        for node in self.nodes.values():
            assert self.ledger.join(self.now, node.incarnation, 1, LEASE) is Answer.OK
        self.watcher = Watcher()
        self.watcher.outlives = self.ledger.limits.watchers_outlive
        self.events: list[Event] = []
        self.entries: list[Entry] = []
        """The same with what it followed from, as in timelines."""
        self.orders: list[tuple[Order, ConnectionId]] = []
        self.ids = 0
        self.home: dict[ConnectionId, Node] = {}

    # -- what happens -------------------------------------------------------------------------------------------

    def begin(
        self,
        user: str = ALICE,
        tab: str = "t1",
        session: str = "s1",
        *,
        node: str = "n1",
        in_flight: bool = True,
        info: dict[str, Any] | None = None,
        availability: Availability | None = None,
    ) -> Connection:
        """An authenticated upgrade begins."""
        self.ids += 1
        c = Connection(
            ConnectionId(f"c{self.ids:04}"),
            UserId(fresh(user)),
            SessionId(fresh(session)),
            TabId(fresh(tab)),
            self.now,
            info=info,
            availability=availability,
        )
        self.home[c.id] = self.nodes[node]
        self.home[c.id].roster.begin(c, self.now, in_flight=in_flight)
        if in_flight:
            self.turn()
        return c

    def open(self, c: Connection) -> None:
        self.home[c.id].roster.open(c, self.now)
        self.turn()

    def connect(self, user: str = ALICE, tab: str = "t1", session: str = "s1", **more: Any) -> Connection:
        """An upgrade begins and is granted in the same loop turn."""
        c = self.begin(user, tab, session, in_flight=False, **more)
        self.open(c)
        return c

    def refuse(self, c: Connection) -> None:
        self.home[c.id].roster.refuse(c, self.now)
        self.turn()

    def close(self, c: Connection, code: int = 1001) -> None:
        """The client's close frame; TCP goes on."""
        self.home[c.id].roster.close_received(c, code, self.now)
        self.turn()

    def server_close(self, c: Connection, cause: Cause = Cause.EXPIRED, code: int = 4001) -> None:
        self.home[c.id].roster.close_sent(c, cause, code, self.now)
        self.turn()

    def lost(self, c: Connection, cause: Cause = Cause.ABNORMAL) -> None:
        """TCP ends."""
        self.home[c.id].roster.lost(c, self.now, cause)
        self.turn()

    def end(self, c: Connection, code: int = 1001) -> None:
        """Close frame and TCP's end in the same loop turn."""
        self.home[c.id].roster.close_received(c, code, self.now)
        self.lost(c)

    def bye(self, c: Connection) -> None:
        self.home[c.id].roster.depart(c, Cause.BYE, self.now)
        self.turn()

    def kick(self, user: str = ALICE, cause: Cause = Cause.KICKED) -> None:
        """On every node, as an administrator does it."""
        for node in self.nodes.values():
            if node.alive:
                node.roster.dismiss(UserId(user), cause, self.now)
        self.turn()

    def state(
        self, c: Connection, availability: Availability | None = None, meta: dict[str, Any] | None = None
    ) -> None:
        self.home[c.id].roster.state(c, availability, meta)
        self.turn()

    def join(self, c: Connection, room: str, meta: dict[str, Any] | None = None) -> None:
        self.home[c.id].roster.join(c, RoomName(fresh(room)), meta or {})
        self.turn()

    def leave(self, c: Connection, room: str) -> None:
        self.home[c.id].roster.leave(c, RoomName(fresh(room)))
        self.turn()

    def kill(self, node: str) -> None:
        """The process is gone, with all that it has not told."""
        self.nodes[node].alive = False
        self.check()

    def advance(self, seconds: float) -> None:
        """Let time pass, in steps of at most a second, stopping wherever something is due."""
        end = self.now + seconds
        while self.now < end:
            stops = [self.now + 1.0, end, *(at for at in self._due() if at > self.now)]
            self.now = min(stops)
            self.tick()

    def tick(self) -> None:
        """What timers do."""
        for node in self.nodes.values():
            if node.alive:
                due = node.roster.next_deadline()
                if due is not None and due <= self.now:
                    node.roster.fire(self.now)
                if self.now - node.beaten >= BEAT:
                    node.beaten = self.now
                    self.ledger.beat(self.now, node.incarnation, 1, LEASE)
        self.turn(sweep=True)

    # -- the end of a loop turn ---------------------------------------------------------------------------------

    def turn(self, *, sweep: bool = False) -> None:
        """Nodes tell what changed, the store does what is due, watchers hear of it, the promises are checked."""
        for node in self.nodes.values():
            if node.alive and not node.delayed:
                self.tell(node)
        if sweep:
            self.sweep()
        self.check()

    def tell(self, node: Node) -> None:
        """A round trip to the store."""
        for order, c in node.roster.take_orders():
            self.orders.append((order, c.id))
        if not node.roster.changed:
            return
        told = node.roster.take_contributions(self.now)
        assert self.ledger.put(self.now, node.incarnation, 1, told) is Answer.OK
        self.hear()
        inherited = self.ledger.take_inherited()
        if node.deaf:
            node.roster.mark(contribution.user for contribution in told)
            return
        node.roster.acknowledge(told)
        for user, summary in inherited:
            node.roster.adopt(user, summary)

    def sweep(self) -> None:
        """What is due, and what dead nodes left."""
        if self.ledger.sweep(self.now) is Answer.OK:
            for incarnation in list(self.ledger.state.dead):
                while self.ledger.reap(self.now, incarnation, self.policy.window(Cause.NODE_LOST)):
                    pass
        self.hear()

    def hear(self) -> None:
        """Watchers apply what they are told."""
        notices = {notice.version for notice in self.ledger.take_notices()}
        for event in self.ledger.take_entries():
            self.entries.append(event)
            if isinstance(event, Given):
                continue
            self.events.append(event)
            if isinstance(event, Transition):
                while self.watcher.version + 1 in notices:
                    self.watcher.version += 1
                self.watcher.apply(event)
        while self.watcher.version + 1 in notices:
            self.watcher.version += 1

    def _due(self) -> list[float]:
        at = [node.roster.next_deadline() for node in self.nodes.values() if node.alive]
        ahead = self.ledger.next_deadline()
        seen = self.ledger.state.clock.seen
        if ahead is not None and seen is not None:
            at.append(seen + ahead)
        return [instant for instant in at if instant is not None]

    # -- what can be read ---------------------------------------------------------------------------------------

    def record(self, user: str = ALICE) -> Record:
        return self.ledger.records.get(UserId(user)) or Record(UserId(user))

    def shown(self, user: str = ALICE) -> Shown:
        return self.ledger.shown(UserId(user))

    def status(self, user: str = ALICE) -> Status:
        return self.shown(user).status

    def phase(self, user: str = ALICE) -> Phase:
        return self.record(user).phase

    def grace(self, user: str = ALICE) -> Grace | None:
        return self.record(user).grace

    def deadline(self, user: str = ALICE) -> float:
        """When the window of a user ends, as an instant."""
        grace = self.grace(user)
        assert grace is not None, f"{user} is in no window"
        clock = self.ledger.state.clock
        assert clock.seen is not None
        return clock.seen + grace.deadline - clock.value

    def members(self, room: str) -> set[str]:
        return set(self.ledger.rooms.get(RoomName(room), set()))

    def changes(self, user: str = ALICE) -> list[Change]:
        """What watchers of a user were told, without the rooms."""
        return [t.change for t in self.watcher.seen if t.user == user and t.room is None]

    def graces(self, user: str = ALICE) -> list[Event]:
        """What was reported of windows and returns."""
        kinds = (GraceStarted, GraceCancelled, GraceExpired, Returned)
        return [e for e in self.events if e.user == user and isinstance(e, kinds)]

    # -- the promises -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """All that must hold between any two steps."""
        for node in self.nodes.values():
            if node.alive:
                self._check_node(node)
        for record in self.ledger.records.values():
            check_record(record, self.ledger.state.clock.value)
        self._check_watcher()
        self._check_indexes()

    def _check_node(self, node: Node) -> None:
        limits = {ReadyState.CONNECTING: node.roster.handshake_timeout, ReadyState.CLOSING: node.roster.close_timeout}
        deadlines = node.roster._deadlines
        for c in node.roster.connections.values():
            at = deadlines.get(c.id)
            if c.ready in limits:
                assert at is not None and at <= self.now + limits[c.ready], f"{c.ready} has no end"
            else:
                assert at is None and c.ready is ReadyState.OPEN
        if node.roster.changed or node.incarnation not in self.ledger.state.leases:
            return  # the store does not know all yet, or knows no more
        for user in node.roster.users():
            record = self.record(user)
            share = record.shares.get(node.incarnation)
            told = {} if share is None else {c.id: c.ready for c in share.connections}
            here = {c.id: c.ready for c in node.roster.of(user)}
            assert told == here or not any(ready.active for ready in here.values())
            if node.roster.active_count(user):
                assert record.phase is Phase.ONLINE, "active connections, and not online"

    def _check_watcher(self) -> None:
        for user, record in self.ledger.records.items():
            followed = self.watcher.users.get(user)
            assert record.shown == followed or (followed is None and not record.shown.version)
        for room, members in self.watcher.rooms.items():
            shown = {u: self.record(u).members[room] for u in self.ledger.rooms.get(room, ())}
            assert members == shown

    def _check_indexes(self) -> None:
        ledger = self.ledger
        rooms: dict[RoomName, set[UserId]] = {}
        holders: dict[Incarnation, set[UserId]] = {}
        for user, record in ledger.records.items():
            assert ledger._deadlines.get(user) == min((h.deadline for h in record.holds.values()), default=None)
            for room in record.members:
                rooms.setdefault(room, set()).add(user)
            for incarnation in record.shares:
                holders.setdefault(incarnation, set()).add(user)
            gone = record.phase is Phase.OFFLINE and not record.shares
            assert (user in ledger._departed) is gone
        assert ledger.rooms == rooms
        assert {inc: users for inc, users in ledger.holders.items() if users} == holders


def check_record(record: Record, clock: float) -> None:
    """What must hold of one record.

    Args:
        clock: the value of the store clock.
    """
    phase, shown = record.phase, record.shown
    connections = [c for _, c in record.connections()]
    active = [c for c in connections if c.ready.active]
    assert record.active_count == len(active) == len({c.id for c in active})
    assert (phase is Phase.ONLINE) is bool(active), "online means: an active connection"
    assert (phase is Phase.HELD) is (record.grace is not None)
    if phase is Phase.HELD:
        in_flight = any(c.ready is ReadyState.CONNECTING for c in connections)
        assert record.holds or in_flight, "held for nothing"
    if phase is Phase.OFFLINE:
        assert not record.holds and not record.members
        assert shown.status is Status.OFFLINE
    elif shown.status is Status.OFFLINE:
        assert record.hidden_at is not None, "present, shown offline, and not by the user's own wish"
        assert not record.members
    for tab, hold in record.holds.items():
        assert hold.connection.tab == tab
        assert hold.deadline <= clock + hold.window, "a window longer than its length"
    if phase is Phase.HELD and record.holds:
        assert record.grace is not None
        assert record.grace.deadline == max(hold.deadline for hold in record.holds.values())
