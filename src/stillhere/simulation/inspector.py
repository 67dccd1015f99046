"""The checks: every request that the store executes and every frame that a watcher gets is held against the promises.

What is promised is reckoned here anew from what nodes told and what clients did, without the rules that are on trial.
The names of the rules are those of ``docs/simulation.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from stillhere.core.events import Change, Notice, Transition
from stillhere.core.leases import Answer
from stillhere.core.record import Contribution, Ending, Record
from stillhere.core.words import FINAL_CAUSES, Cause, Incarnation, Phase, ReadyState, UserId
from stillhere.simulation.house import Desk
from stillhere.simulation.report import Violation
from stillhere.store.cluster.line import Told, ToldSweep
from stillhere.wire.messages import UserPresence

if TYPE_CHECKING:
    from stillhere.simulation.client import Wire
    from stillhere.simulation.view import View
    from stillhere.simulation.world import World

ESTABLISHED = 4.0
"""A connection of this age, on a node without trouble for as long, must never be shown offline; in seconds."""

EXACT, UNDER_JUMPS = 0.3, 3.4
"""By how much a window may end early, in seconds: without jumps of the store's clock, and with them."""

READS = frozenset(("snapshot", "room", "record", "rooms", "page", "timeline"))


class Promise(msgspec.Struct, frozen=True):
    """A window that was promised when its end was told."""

    connection: str
    session: str
    tab: str
    since: float
    until: float
    told_at: float


class Before(msgspec.Struct):
    """What a put finds."""

    seq: int
    known: int
    revisions: dict[str, int]
    phases: dict[str, Phase]
    others: dict[str, dict[str, tuple[str, ...]]]
    carried: dict[str, tuple[tuple[str, str, str], ...]]
    """Of a dead incarnation: its users' active connections."""
    contributions: Sequence[Contribution]


class Inspector:
    """Observes the store, and is told what watchers are shown."""

    def __init__(self, world: World) -> None:
        """Know nothing yet."""
        self.world = world
        self.registered: dict[str, Incarnation] = {}
        """Connections that the store has acknowledged, and as whose."""
        self.renewed: dict[Incarnation, float] = {}
        self.promises: dict[str, list[Promise]] = {}
        self.departures: dict[str, list[tuple[str, str, bool, float]]] = {}
        self.emitted_at: dict[tuple[int, int, int], float] = {}
        self.swept = 0.0
        """Seconds of the store clock in which windows could run out."""
        self._last: dict[int, tuple[int, int]] = {}
        self._status: dict[str, tuple[bool, int]] = {}
        self._swept_at: dict[int, float] = {}
        self._lost_at: dict[str, float] = {}
        self._ended_once: set[str] = set()
        self._reaped_ids: set[str] = set()
        """Connections whose node was declared dead, and that were not told again yet."""
        self._leased: dict[tuple[int, str], float] = {}
        """When a node last renewed its lease, on the store clock."""
        self._clock: dict[int, float] = {}
        self._dead: set[tuple[int, str]] = set()
        self._channels: dict[tuple[int, str], int] = {}
        self._unsure: set[str] = set()
        """Users of whom the store lost something: what was promised to them is not known exactly."""
        self._shown: dict[tuple[str, str], float] = {}
        """When a watcher was shown a user OFFLINE; absent while it is shown anything else."""
        self._judged: list[tuple[Transition, Record | None]] = []
        """OFFLINE that this request emitted; to be judged when it is known what it promised or ended."""

    def broken(self, rule: str, what: str, user: str = "") -> None:
        """A promise was broken."""
        report = self.world.report
        if len(report.violations) < 50:
            report.violations.append(Violation(round(self.world.clock.now, 3), rule, what, user))

    # -- the store --------------------------------------------------------------------------------------------------

    def before_put(self, desk: Desk, incarnation: Incarnation, contributions: Sequence[Contribution]) -> Before:
        """Note what there is."""
        ledger = desk.ledger
        before = Before(ledger.state.seq, len(ledger.records), {}, {}, {}, {}, contributions)
        for told in contributions:
            record = ledger.records.get(told.user)
            if record is not None:
                share = record.shares.get(incarnation)
                before.revisions[told.user] = -1 if share is None else share.revision
                before.phases[told.user] = record.phase
                before.others[told.user] = _others(record, incarnation)
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
        if request in READS:
            if changed or told.seq != self._last.get(desk.number, (0, told.seq))[1]:
                self.broken("4", f"{request} changed something")
            return
        for user, record in changed:
            self._whole(desk, user, record)
        self._clock[desk.number] = told.clock
        self._fence(desk.number, request, incarnation, told, channel)
        self._effects(desk, request, incarnation, told, changed, noted)
        for user, record in changed:
            self._held(user, record)
        while self._judged:
            self._offline(*self._judged.pop(0))

    def _fence(self, number: int, request: str, incarnation: Incarnation, told: Told, channel: int) -> None:
        """I5: who was declared dead, or has spoken over a newer line, is not listened to."""
        key = number, incarnation
        if request == "retire":
            self._dead.add(key)
        elif isinstance(told, ToldSweep):
            self._dead.update((number, dead) for dead in told.dead)
        elif request in ("hello", "join") and told.answer is Answer.OK:
            self._channels[key] = max(channel, self._channels.get(key, 0))
        elif channel and told.answer is Answer.OK:
            if key in self._dead:
                self.broken("I5", f"{request} of {incarnation}, which is dead, was accepted")
            if channel < self._channels.get(key, 0):
                self.broken("I5", f"{request} of {incarnation} over line {channel} was accepted after a newer hello")

    def _held(self, user: str, record: Record | None) -> None:
        """8: nobody is held without a window that was promised."""
        if record is None or record.phase is not Phase.HELD or self.promises.get(user) or user in self._unsure:
            return
        if self.world.jumped or self.world.store_back_at >= 0:
            return  # what was told before and after cannot be ordered exactly
        if all(c.ready is not ReadyState.CONNECTING for _, c in record.connections()):
            self.broken("8", "held, although every window was ended by a departure", user)

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
            self._leased[desk.number, incarnation.rpartition(".")[0]] = told.clock
        elif request == "put" and isinstance(noted, Before):
            self._merged(desk, incarnation, noted)
        elif request == "reap" and isinstance(noted, Before):
            self._reaped(desk, incarnation, noted)
        elif isinstance(told, ToldSweep) and told.answer is Answer.OK:
            before = self._swept_at.get(desk.number, told.clock)
            self.swept += min(max(told.clock - before, 0.0), 1.5) / len(desk.house.desks)
            self._swept_at[desk.number] = told.clock

    def _merged(self, desk: Desk, incarnation: Incarnation, noted: Before) -> None:
        """A put is merged: what do its contributions promise?"""
        now = self.world.clock.now
        for told in noted.contributions:
            if noted.revisions.get(told.user, -1) >= told.revision:
                continue
            record = desk.ledger.records.get(told.user)
            named: set[str] = {c.id for c in told.connections} | {ending.connection for ending in told.endings}
            if record is not None and not _kept(noted.others.get(told.user, {}), _others(record, incarnation), named):
                self.broken("5", f"a contribution of {incarnation} changed what others carry", told.user)
            active = [c for c in told.connections if c.ready.active]
            present = bool(active) or noted.phases.get(told.user, Phase.OFFLINE) is not Phase.OFFLINE
            for ending in told.endings:
                self._ended(told.user, ending, now, present)
            for c in active:
                self.registered[c.id] = incarnation
                self._reaped_ids.discard(c.id)

    def _ended(self, user: str, ending: Ending, now: float, present: bool) -> None:
        since = now - ending.ago
        self.registered.pop(ending.connection, None)
        self._ended_once.add(ending.connection)
        promises = self.promises.setdefault(user, [])
        if ending.cause in FINAL_CAUSES:
            if ending.cause is not Cause.SUPERSEDED:
                everything = ending.cause is not Cause.BYE
                self.departures.setdefault(user, []).append((ending.session, ending.tab, everything, since))
                promises[:] = [
                    p
                    for p in promises
                    if p.since > since or not (everything or p.session == ending.session or p.tab == ending.tab)
                ]
            return
        covered = any(
            since <= at and (everything or session == ending.session or tab == ending.tab)
            for session, tab, everything, at in self.departures.get(user, ())
        )
        if covered or not present or ending.last is None or ending.window <= 0:
            return
        if all(p.connection != ending.connection for p in promises):
            until = since + ending.window
            promises.append(Promise(ending.connection, ending.session, ending.tab, since, until, now))

    def _reaped(self, desk: Desk, incarnation: Incarnation, noted: Before) -> None:
        """Users of a dead node are held from now on."""
        now, policy = self.world.clock.now, self.world.policy
        for user, connections in noted.carried.items():
            record = desk.ledger.records.get(UserId(user))
            if record is not None and incarnation in record.shares:
                continue
            elsewhere = set() if record is None else {c.id for _, c in record.connections()}
            for id, session, tab in connections:
                if self.registered.get(id) == incarnation:
                    del self.registered[id]
                    self._reaped_ids.add(id)
                if id in self._ended_once or id in elsewhere:
                    continue  # its window was stamped when its end was told, or a newer incarnation has it
                window = min(policy.window(Cause.NODE_LOST), policy.window(Cause.NODE_DRAIN))
                promise = Promise(id, session, tab, now, now + window, now)
                self.promises.setdefault(user, []).append(promise)

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

    def _offline(self, entry: Transition, record: Record | None) -> None:
        """OFFLINE was emitted: may it be?"""
        world, user = self.world, entry.user
        now = world.clock.now
        slack = UNDER_JUMPS if world.jumped else EXACT
        if record is not None and record.active_count:
            self.broken("1", f"OFFLINE with {record.active_count} active connections", user)
        in_flight = record is not None and any(c.ready is ReadyState.CONNECTING for _, c in record.connections())
        if in_flight and entry.cause not in FINAL_CAUSES:
            self.broken("7", "OFFLINE while an upgrade is in flight", user)
        for promise in self.promises.pop(user, ()):
            if promise.until - slack > now:
                self.broken("I6", f"the window of {promise.tab} was to last until {promise.until:.3f}", user)
        if user in world.kicked and now - world.kicked[user] < ESTABLISHED:
            return
        tolerance = 3.5
        for wire in world.wires_of(user):
            if not (wire.alive and wire.counted):
                continue
            server, connection = wire.server, wire.endpoint.connection
            age = now - wire.welcomed_at if wire.welcomed_at else 0.0
            calm = server.calm(ESTABLISHED) and world.store_calm(ESTABLISHED) and not self._excused(wire)
            if age >= ESTABLISHED and calm:
                self.broken("I1", f"OFFLINE although {wire.tab.id} is connected to {server.name}", user)
            assert connection is not None
            incarnation = self.registered.get(connection.id)
            if incarnation is not None:
                settings = world.settings
                until = self.renewed.get(incarnation, -1e9) + settings.cluster.lease
                until += settings.grace.policy.window(Cause.NODE_LOST)
                if now < until - tolerance:
                    self.broken(
                        "I1", f"OFFLINE although {incarnation}, which has {wire.tab.id}, renewed its lease lately", user
                    )
            lately = now - world.store_back_at < 1.5 and world.store_away_for > 4.0
            if lately and now - wire.opened_at >= 1.0 and not server.in_trouble and now - server.calm_since >= 3.0:
                self.broken("I7", f"OFFLINE right after an outage, with {wire.tab.id} on {server.name}", user)

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

    def forget(self, desk: Desk, since: float) -> None:
        """The store lost what it was told since an instant."""
        for user in list(self.promises):
            if self.world.partition_of(user) == desk.number:
                self.promises[user] = [p for p in self.promises[user] if p.told_at < since]
        self._unsure.update(self.world.users)
        now, lease = desk.ledger.state.clock.value, self.world.settings.cluster.lease
        for key, at in list(self._leased.items()):
            if key[0] == desk.number:  # who had a lease has the time of one to tell again
                held = self._clock[desk.number] - at <= lease
                self._leased[key] = now if held else now - 2 * lease
        self._clock[desk.number] = now
        self.registered.clear()
        self._last.pop(desk.number, None)
        self._dead = {key for key in self._dead if key[0] != desk.number}
        self._channels = {key: at for key, at in self._channels.items() if key[0] != desk.number}

    # -- watchers ---------------------------------------------------------------------------------------------------

    def shown_to(self, view: View, told: UserPresence) -> None:
        """A watcher was shown a user."""
        world, user = self.world, told.user
        now = world.clock.now
        key = world.partition_of(user), int(told.epoch), told.version
        if told.status != "offline":
            gone_at = self._shown.pop((view.name, user), None)
            if gone_at is not None and key not in self.emitted_at and world.last_alive(user) < gone_at - 0.1:
                self.broken("9", f"{view.name} was shown {told.status} again, without a connection", user)
            return
        self._shown.setdefault((view.name, user), now)
        if self.emitted_at.get(key, now) < now - 1.0 or user in world.hiding:
            return  # late, but in order
        if user in world.kicked and now - world.kicked[user] < ESTABLISHED:
            return
        for wire in world.wires_of(user):
            if not (wire.alive and wire.counted and wire.welcomed_at):
                continue
            calm = not wire.server.in_trouble and now - wire.server.calm_since >= ESTABLISHED
            if now - wire.welcomed_at >= ESTABLISHED and calm and not self._excused(wire):
                self.broken("I1w", f"{view.name} was shown OFFLINE although {wire.tab.id} is connected", user)
                break

    def _excused(self, wire: Wire) -> bool:
        """Whether the wire's node has lost its lease: its users may be lost too, until it has told them again."""
        node, number = wire.server.node, self.world.partition_of(wire.tab.user)
        connection = wire.endpoint.connection
        if node is None or connection is None or connection.id in self._reaped_ids:
            return True
        at = self._leased.get((number, str(node.incarnation)))
        return at is None or self._clock[number] - at > self.world.settings.cluster.lease

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

    def _bounds(self) -> None:
        """I2: who is gone is offline after the longest lease, window and sweep."""
        world = self.world
        for user in world.users:
            record = world.record_of(user)
            if record is None or record.phase is Phase.OFFLINE or any(wire.alive for wire in world.wires_of(user)):
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
