"""The checks: every request that the store executes is held against the promises.

What is promised is reckoned anew from what nodes told and what clients did (``promises.py``), and what is excused from
the faults alone (``touch.py``). The names of the rules are those of ``docs/simulation.md``. What watchers are shown is
judged in ``judge.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from stillhere.core.events import Change, Notice, Transition
from stillhere.core.leases import Answer
from stillhere.core.record import Contribution, Record
from stillhere.core.words import FINAL_CAUSES, Cause, Incarnation, Phase, ReadyState, UserId
from stillhere.simulation.house import Desk
from stillhere.simulation.judge import Judge
from stillhere.simulation.promises import Windows
from stillhere.store.cluster.line import Told, ToldSweep

if TYPE_CHECKING:
    from stillhere.simulation.world import World

EXACT = 0.01
"""By how much a window may end early, in seconds, while no clock jumps."""

STILL = 2.9
"""A store that executed nothing for so long, in seconds, may find its clock disturbed."""

READS = frozenset(("snapshot", "room", "record", "rooms", "page", "timeline"))


class Before(msgspec.Struct):
    """What a put or a reap finds."""

    revisions: dict[str, int]
    phases: dict[str, Phase]
    others: dict[str, dict[str, tuple[str, ...]]]
    active: frozenset[str]
    """Connections that are active as far as the store knows."""
    carried: dict[str, tuple[tuple[str, str, str], ...]]
    """Of a dead incarnation: its users' active connections."""
    cause: Cause
    """Of its death."""
    contributions: Sequence[Contribution]


class Memory(msgspec.Struct):
    """What is known of one partition, and comes back with an image of it."""

    windows: dict[str, Windows]
    registered: dict[str, Incarnation]
    """Active connections that the store was told of, and as whose."""
    ended: set[str]
    dead: set[str]
    channels: dict[str, int]

    def copy(self) -> Memory:
        """As it is now."""
        return Memory(
            {user: windows.copy() for user, windows in self.windows.items()},
            dict(self.registered),
            set(self.ended),
            set(self.dead),
            dict(self.channels),
        )


class Inspector(Judge):
    """Observes the store, and is told what watchers are shown."""

    def __init__(self, world: World) -> None:
        """Know nothing yet."""
        super().__init__(world)
        self.memory: dict[int, Memory] = {}
        self.renewed: dict[Incarnation, float] = {}
        self.swept = 0.0
        """Seconds of the store clock in which windows could run out."""
        self._murky: dict[int, float] = {}
        """When the clock of a partition last was disturbed."""
        self._wrote: dict[int, tuple[float, float]] = {}
        """When a partition last executed something, and by how much its server's clock was wrong."""
        self._last: dict[int, tuple[int, int]] = {}
        self._status: dict[str, tuple[bool, int]] = {}
        self._swept_at: dict[int, float] = {}
        self._lost_at: dict[str, float] = {}
        self._judged: list[tuple[Transition, Record | None]] = []
        """OFFLINE that this request emitted; to be judged when it is known what it promised or ended."""

    def of(self, number: int) -> Memory:
        """What is known of a partition."""
        memory = self.memory.get(number)
        if memory is None:
            memory = self.memory[number] = Memory({}, {}, set(), set(), {})
        return memory

    # -- the store --------------------------------------------------------------------------------------------------

    def before_put(self, desk: Desk, incarnation: Incarnation, contributions: Sequence[Contribution]) -> Before:
        """Note what there is."""
        ledger = desk.ledger
        cause = ledger.state.dead.get(incarnation, Cause.NODE_LOST)
        before = Before({}, {}, {}, frozenset(), {}, cause, contributions)
        active: set[str] = set()
        for told in contributions:
            record = ledger.records.get(told.user)
            if record is not None:
                share = record.shares.get(incarnation)
                before.revisions[told.user] = -1 if share is None else share.revision
                before.phases[told.user] = record.phase
                before.others[told.user] = _others(record, incarnation)
                active.update(c.id for c in record.carried_by(incarnation) if c.ready.active)
        before.active = frozenset(active)
        if not contributions:
            for user in ledger.holders.get(incarnation, ()):
                before.carried[user] = tuple(
                    (c.id, c.session, c.tab) for c in ledger.records[user].carried_by(incarnation) if c.ready.active
                )
        return before

    def executed(
        self,
        desk: Desk,
        request: str,
        incarnation: Incarnation,
        told: Told,
        changed: Sequence[tuple[UserId, Record | None]],
        noted: object,
        channel: int,
    ) -> None:
        """Hold a request against the promises."""
        self.world.report.requests += 1
        number = desk.number
        if request in READS:
            if changed or told.seq != self._last.get(number, (0, told.seq))[1]:
                self.broken("4", f"{request} changed something")
            return
        for user, record in changed:
            self._whole(desk, user, record)
        now, offset = self.world.clock.now, self.world.house.offset
        wrote_at, wrong = self._wrote.get(number, (now, offset))
        if now - wrote_at > STILL or wrong != offset:
            self._murky[number] = now
        self._wrote[number] = now, offset
        self._fence(number, request, incarnation, told, channel)
        self._effects(desk, request, incarnation, told, changed, noted)
        while self._judged:
            self._offline(desk, *self._judged.pop(0))

    def _fence(self, number: int, request: str, incarnation: Incarnation, told: Told, channel: int) -> None:
        """I5: who was declared dead, or has spoken over a newer line, is not listened to."""
        memory = self.of(number)
        if request == "retire":
            memory.dead.add(incarnation)
        elif isinstance(told, ToldSweep):
            memory.dead.update(told.dead)
        elif request in ("hello", "join") and told.answer is Answer.OK:
            memory.channels[incarnation] = max(channel, memory.channels.get(incarnation, 0))
        elif channel and told.answer is Answer.OK:
            self.made("I5")
            if incarnation in memory.dead:
                self.broken("I5", f"{request} of {incarnation}, which is dead, was accepted")
            if channel < memory.channels.get(incarnation, 0):
                self.broken("I5", f"{request} of {incarnation} over line {channel} was accepted after a newer hello")

    def _effects(
        self,
        desk: Desk,
        request: str,
        incarnation: Incarnation,
        told: Told,
        changed: Sequence[tuple[UserId, Record | None]],
        noted: object,
    ) -> None:
        """What a request ended, promised or renewed."""
        if told.answer is Answer.FENCED or told.answer is Answer.NO_EPOCH:
            if changed:
                self.broken("I5", f"{request} of {incarnation} was answered {told.answer} and changed something")
        elif request in ("beat", "join"):
            self.renewed[incarnation] = self.world.clock.now
        elif request == "put" and isinstance(noted, Before):
            self._merged(desk, incarnation, noted)
        elif request == "reap" and isinstance(noted, Before):
            self._reaped(desk, incarnation, noted)
        elif isinstance(told, ToldSweep) and told.answer is Answer.OK:
            before = self._swept_at.get(desk.number, told.clock)
            self.swept += min(max(told.clock - before, 0.0), 1.5) / len(desk.house.desks)
            self._swept_at[desk.number] = told.clock
            self._held(desk)

    def _merged(self, desk: Desk, incarnation: Incarnation, noted: Before) -> None:
        """A put is merged: what do its contributions promise?"""
        now, clock, memory = self.world.clock.now, desk.ledger.state.clock, self.of(desk.number)
        murky = self._murky.get(desk.number, -1.0)
        for told in noted.contributions:
            if noted.revisions.get(told.user, -1) >= told.revision:
                continue
            record = desk.ledger.records.get(told.user)
            named: set[str] = {c.id for c in told.connections} | {ending.connection for ending in told.endings}
            if record is not None and not _kept(noted.others.get(told.user, {}), _others(record, incarnation), named):
                self.broken("5", f"a contribution of {incarnation} changed what others carry", told.user)
            active = [c for c in told.connections if c.ready.active]
            present = bool(active) or noted.phases.get(told.user, Phase.OFFLINE) is not Phase.OFFLINE
            windows = memory.windows.setdefault(told.user, Windows())
            stranger = told.user not in noted.phases and not told.connections
            for ending in told.endings:
                memory.registered.pop(ending.connection, None)
                memory.ended.add(ending.connection)
                # a store that lost its data may have forgotten that watchers were shown a user who goes now
                there = present or (clock.recovering and ending.window > ending.ago)
                carried = ending.connection in noted.active
                windows.end(ending, now, clock, present=there, carried=carried, murky=murky, stranger=stranger)
            for c in active:
                memory.registered[c.id] = incarnation

    def _reaped(self, desk: Desk, incarnation: Incarnation, noted: Before) -> None:
        """Users of a dead node are held from now on."""
        now, memory = self.world.clock.now, self.of(desk.number)
        at, window = desk.ledger.state.clock.value, self.world.policy.window(noted.cause)
        for user, connections in noted.carried.items():
            record = desk.ledger.records.get(UserId(user))
            if record is not None and incarnation in record.shares:
                continue
            elsewhere = set() if record is None else {c.id for _, c in record.connections()}
            for id, session, tab in connections:
                if memory.registered.get(id) == incarnation:
                    del memory.registered[id]
                if id in memory.ended or id in elsewhere:
                    continue  # its window was stamped when its end was told, or a newer incarnation has it
                windows = memory.windows.setdefault(user, Windows())
                windows.lost_node(id, session, tab, noted.cause, now, at, window)

    def _held(self, desk: Desk) -> None:
        """8: after a sweep nobody is held whose windows are all over."""
        at, memory = desk.ledger.state.clock.value, self.of(desk.number)
        for user, record in desk.ledger.records.items():
            if record.phase is not Phase.HELD:
                continue
            if any(c.ready is ReadyState.CONNECTING for _, c in record.connections()):
                self.excused("8", "an upgrade is in flight")
                continue
            self.made("8")
            windows = memory.windows.get(user)
            if windows is not None and windows.running(at):
                continue
            if windows is not None and windows.lingering(at):
                self.excused("8", "a bye was told of somebody unknown, and an end before it later")
            else:
                self.broken("8", "held, although every window is over or was ended by a departure", user)

    def emitted(self, desk: Desk, entry: Transition | Notice, epoch: int) -> None:
        """The log grows: by one place at a time, and what it says alternates."""
        now, number = self.world.clock.now, desk.number
        last = self._last.get(number)
        if last is not None and last[0] == epoch and entry.version != last[1] + 1:
            self.broken("9", f"place {entry.version} of epoch {epoch} follows {last[1]}")
        self._last[number] = epoch, entry.version
        key = number, epoch, entry.version
        if key in self.emitted_at:
            self.broken("9", f"place {epoch}-{entry.version} was given twice: the epoch is not a new one")
        self.emitted_at[key] = now
        if isinstance(entry, Notice) or entry.room is not None:
            return
        self.world.report.transitions += 1
        self.world.note(
            entry.user, "%s %d-%d (%s), %d active", entry.change, epoch, entry.version, entry.cause, entry.connections
        )
        if entry.change is Change.UPDATED:
            return
        online = entry.change is Change.ONLINE
        was, in_epoch = self._status.get(entry.user, (False, 0))
        if was == online and in_epoch == epoch:
            self.broken("9", f"{entry.change} twice in a row", entry.user)
        self._status[entry.user] = online, epoch
        record = desk.ledger.records.get(entry.user)
        if not online and (record is None or record.phase is Phase.OFFLINE):
            self._judged.append((entry, record))

    def _offline(self, desk: Desk, entry: Transition, record: Record | None) -> None:
        """OFFLINE was emitted: may it be?"""
        world, user, now = self.world, entry.user, self.world.clock.now
        if record is not None and record.active_count:
            self.broken("1", f"OFFLINE with {record.active_count} active connections", user)
        in_flight = record is not None and any(c.ready is ReadyState.CONNECTING for _, c in record.connections())
        if in_flight and entry.cause not in FINAL_CAUSES:
            self.broken("7", "OFFLINE while an upgrade is in flight", user)
        memory = self.of(desk.number)
        windows = memory.windows.pop(user, Windows())
        windows.spare, windows.unremembered, windows.promised, ended = [], [], [], windows.promised
        memory.windows[user] = windows
        for promise in ended:
            self.made("I6")
            early = promise.until - now
            ahead = world.ahead(promise.since)
            if early > EXACT + ahead:
                self.broken("I6", f"the window of {promise.tab} was to last until {promise.until:.3f}", user)
            elif early > EXACT:
                self.excused("I6", "the store's clock jumped ahead meanwhile")
        self.made("I1")
        self.judge_outage(user)
        for wire in self.connected(user):
            connection = wire.endpoint.connection
            assert connection is not None
            incarnation = memory.registered.get(connection.id)
            if incarnation is not None:
                renewed = self.renewed.get(incarnation, -1e9)
                until = renewed + world.settings.cluster.lease + world.policy.window(Cause.NODE_LOST)
                if now < until - EXACT - world.ahead(renewed):
                    what = f"OFFLINE although {incarnation}, which has {wire.tab.id}, renewed its lease lately"
                    self.broken("I1", what, user)
            self.judge_offline("I1", wire, f"OFFLINE although {wire.tab.id} is connected to {wire.server.name}")

    def _whole(self, desk: Desk, user: UserId, record: Record | None) -> None:
        """A record that changed agrees with itself and with the indexes."""
        ledger = desk.ledger
        if record is None:
            if any(user in users for users in ledger.holders.values()):
                self.broken("I8", "a forgotten user is still carried by a node", user)
            return
        active = record.active_count
        if (active > 0) != (record.phase is Phase.ONLINE):
            self.broken("1", f"{active} active connections, and {record.phase}", user)
        if (record.grace is not None) != (record.phase is Phase.HELD):
            self.broken("8", f"{record.phase} with the window {record.grace}", user)
        if record.phase is Phase.OFFLINE and record.holds:
            self.broken("8", "OFFLINE with windows pending", user)
        for incarnation in record.shares:
            if user not in ledger.holders.get(incarnation, ()):
                self.broken("I8", f"not among the users of {incarnation}", user)

    # -- what the store forgets -------------------------------------------------------------------------------------

    def image(self, desk: Desk) -> Memory:
        """What is known of a partition now; for :meth:`restore`."""
        return self.of(desk.number).copy()

    def restore(self, desk: Desk, memory: Memory | None) -> None:
        """The store went back to an image, or has lost everything."""
        number = desk.number
        self.memory[number] = Memory({}, {}, set(), set(), {}) if memory is None else memory.copy()
        self._murky[number] = self.world.clock.now
        self._last.pop(number, None)
        self._swept_at.pop(number, None)

    def evicted(self, desk: Desk, user: str) -> None:
        """The store lost one record."""
        memory = self.of(desk.number)
        memory.windows.pop(user, None)
        for wire in self.world.wires_of(user):
            if wire.endpoint.connection is not None:
                memory.registered.pop(wire.endpoint.connection.id, None)
        self._status.pop(user, None)
        self.evicted_at[user] = self.world.clock.now

    # -- time -------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Once a second: sums, bounds, and what must end."""
        world = self.world
        for desk in world.house.desks:
            ledger = desk.ledger
            shares = sum(len(record.shares) for record in ledger.records.values())
            if shares != sum(len(users) for users in ledger.holders.values()):
                self.broken("I8", "the nodes' users are not those that the records name")
            if ledger.windows_pending != sum(bool(record.holds) for record in ledger.records.values()):
                self.broken("8", "a window without a deadline, or a deadline without a window")
            rooms = {(room, user) for user, record in ledger.records.items() for room in record.members}
            if rooms != {(room, user) for room, users in ledger.rooms.items() for user in users}:
                self.broken("I8", "the members of rooms are not those that the records name")
        for server in world.servers:
            if server.up and not server.paused and server.node is not None:
                at = server.node.roster.next_deadline()
                if at is not None and at < server.monotonic() - 1.5 and world.clock.now - server.calm_since > 5.0:
                    self.broken("3", f"a connection of {server.name} is CONNECTING or CLOSING for too long")
        self._bounds()
        self.look_at_kicks()

    def _bounds(self) -> None:
        """I2: who is gone is offline after the longest lease, window and sweep."""
        world = self.world
        present = {wire.tab.user for wire in world.wires if wire.alive}
        for user in world.users:
            record = world.record_of(user)
            if record is None or record.phase is Phase.OFFLINE or user in present:
                self._lost_at.pop(user, None)
            elif self.swept - self._lost_at.setdefault(user, self.swept) > world.longest_ghost:
                self.broken("I2", f"{record.phase} {world.longest_ghost:.0f} s after the last connection", user)
                self._lost_at[user] = self.swept


def _others(record: Record, incarnation: Incarnation) -> dict[str, tuple[str, ...]]:
    """What all others carry of a user."""
    return {inc: tuple(c.id for c in share.connections) for inc, share in record.shares.items() if inc != incarnation}


def _kept(before: dict[str, tuple[str, ...]], after: dict[str, tuple[str, ...]], named: set[str]) -> bool:
    """Whether others carry what they carried, but for connections that a contribution names: those moved."""
    rest = {inc: left for inc, ids in before.items() if (left := tuple(id for id in ids if id not in named))}
    return rest == {inc: left for inc, ids in after.items() if (left := tuple(id for id in ids if id not in named))}
