"""Walks through everything that can happen to one user: breadth first, over the real code, until nothing new appears.

A **state** is the roster of a node and the ledger together, reduced to what can make a difference later: instants
become distances from now, versions and ids go, tabs and sessions are interchangeable. Windows and time-outs last one or
two ticks, so the states are finite; connections that have ended leave the state, so any number of them comes and goes.

Beside the real code runs a model of the promises: one sentence of the design per line, and no code in common with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple

import msgspec

from stillhere.core.clock import ClockLimits, StoreClock
from stillhere.core.connection import Connection
from stillhere.core.deadlines import Deadlines
from stillhere.core.events import Change, Transition
from stillhere.core.grace import GracePolicy
from stillhere.core.leases import Answer, Limits
from stillhere.core.ledger import Ledger
from stillhere.core.record import Contribution
from stillhere.core.roster import Roster, _Person
from stillhere.core.words import Cause, ConnectionId, Incarnation, Phase, ReadyState, SessionId, Status, TabId, UserId

USER = UserId("alice")
NODE = Incarnation("n1")
TICK = 1.0
HANDSHAKE = 2.0
CLOSE = 1.0
WINDOWS = dict.fromkeys(Cause, 1.0) | {Cause.GOING_AWAY: 2.0, Cause.ABNORMAL: 2.0}
DEPARTURES = (Cause.BYE, Cause.KICKED, Cause.REVOKED, Cause.SUPERSEDED)
POLICY = GracePolicy({cause: window for cause, window in WINDOWS.items() if cause not in DEPARTURES})
LIMITS = Limits(remember=1e9, clock=ClockLimits())
TABS = (TabId("t0"), TabId("t1"))
SESSIONS = (SessionId("s0"), SessionId("s1"))
CONNECTING, OPEN, CLOSING, CLOSED = ReadyState
KEPT_ENDED = 3

State = tuple[Any, ...]


class Pending(NamedTuple):
    """A window that was promised to a tab."""

    session: SessionId
    deadline: float


class Situation:
    """The real code in one state, and what was promised."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.roster = Roster(POLICY, handshake_timeout=HANDSHAKE, close_timeout=CLOSE)
        self.ledger = Ledger(LIMITS)
        self.ledger.hello(self.now, "run")
        assert self.ledger.join(self.now, NODE, 1, 1e12) is Answer.OK
        self.ids = 0
        self.ended: tuple[Connection, ...] = ()
        self.told: list[Contribution] = []
        self.told_at = 0.0
        self.promised: dict[TabId, Pending] = {}
        self.phase = Phase.OFFLINE

    def copy(self) -> Situation:
        """A situation of its own, that shares only what never changes."""
        new = Situation.__new__(Situation)
        new.now, new.ids, new.ended, new.phase = self.now, self.ids, self.ended, self.phase
        new.told, new.told_at = self.told, self.told_at
        new.promised = dict(self.promised)
        new.roster = _copy_roster(self.roster)
        new.ledger = _copy_ledger(self.ledger)
        return new

    def alive(self) -> list[Connection]:
        return self.roster.of(USER)

    # -- what can happen ----------------------------------------------------------------------------------------

    def actions(self, most: int) -> Iterator[tuple[str, Callable[[Situation], None]]]:
        """Everything that may come next; an action finds its connection by its place among those alive."""
        alive = self.alive()
        if len(alive) < most:
            for tab, session in product(TABS, SESSIONS):
                yield "upgrade started", lambda s, t=tab, i=session: s.begin(t, i, in_flight=True)  # type: ignore[misc]
                yield "opened at once", lambda s, t=tab, i=session: s.connect(t, i)  # type: ignore[misc]
        for n, c in enumerate(alive):
            yield "TCP end", lambda s, n=n: s.lost(n)  # type: ignore[misc]
            yield "bye", lambda s, n=n: s.bye(n)  # type: ignore[misc]
            if c.ready is CONNECTING:
                yield "upgrade finished", lambda s, n=n: s.open(s.alive()[n])  # type: ignore[misc]
                yield "upgrade failed", lambda s, n=n: s.refuse(n)  # type: ignore[misc]
            else:
                yield "close frame 1001", lambda s, n=n: s.close(n, 1001)  # type: ignore[misc]
                yield "close frame 1000", lambda s, n=n: s.close(n, 1000)  # type: ignore[misc]
                yield "server closes", lambda s, n=n: s.server_close(n)  # type: ignore[misc]
        yield "kick", Situation.kick
        yield "tick, node first", lambda s: s.tick(node_first=True)
        yield "tick, store first", lambda s: s.tick(node_first=False)

    def begin(self, tab: TabId, session: SessionId, *, in_flight: bool) -> Connection:
        self.ids += 1
        c = Connection(ConnectionId(f"c{self.ids}"), USER, session, tab, self.now)
        self.roster.begin(c, self.now, in_flight=in_flight)
        return c

    def connect(self, tab: TabId, session: SessionId) -> None:
        self.open(self.begin(tab, session, in_flight=False))

    def open(self, c: Connection) -> None:
        """Of one tab, the younger connection stays; the other one is superseded, and leaves no window."""
        rivals = [o for o in self.alive() if o.tab == c.tab and o is not c and o.ready in (OPEN, CLOSING)]
        spared = {o.id: o.ready for o in self.alive() if o is not c and o not in rivals}
        self.roster.open(c, self.now)
        assert len(rivals) <= 1
        for rival in rivals:
            stays, goes = (c, rival) if rival.opened_at <= c.opened_at else (rival, c)
            assert goes.ready is CLOSED and goes.cause is Cause.SUPERSEDED
            assert stays.ready in (OPEN, CLOSING)
            self._ended(goes)
        if not rivals:
            assert c.ready is OPEN
        assert all(self.roster.connections[id].ready is ready for id, ready in spared.items())

    def refuse(self, n: int) -> None:
        c = self._named(n, lambda c: self.roster.refuse(c, self.now))
        assert c.ready is CLOSED

    def lost(self, n: int) -> None:
        c = self._named(n, lambda c: self.roster.lost(c, self.now))
        assert c.ready is CLOSED

    def bye(self, n: int) -> None:
        c = self._named(n, lambda c: self.roster.depart(c, Cause.BYE, self.now))
        assert c.ready is CLOSED

    def close(self, n: int, code: int) -> None:
        c = self._named(n, lambda c: self.roster.close_received(c, code, self.now))
        assert c.ready is CLOSING

    def server_close(self, n: int) -> None:
        c = self._named(n, lambda c: self.roster.close_sent(c, Cause.EXPIRED, 4001, self.now))
        assert c.ready is CLOSING

    def kick(self) -> None:
        expelled = self.roster.dismiss(USER, Cause.KICKED, self.now)
        assert all(c.ready is CLOSED for c in expelled) and self.alive() == []
        self.promised.clear()
        self.ended = (*self.ended, *expelled)[-KEPT_ENDED:]

    def tick(self, *, node_first: bool) -> None:
        """Time passes; the timers of the node and of the store fire in either order."""
        self.now += TICK
        if node_first:
            self._fire()
            self.tell()
        assert self.ledger.sweep(self.now) is Answer.OK
        self.promised = {tab: p for tab, p in self.promised.items() if p.deadline > self.now}
        if not node_first:
            self._foresee()
            self._fire()

    def _fire(self) -> None:
        before = self.alive()
        due = self.roster.next_deadline()
        if due is not None and due <= self.now:
            was = {c.id: c.ready for c in before}
            self.roster.fire(self.now)
            for c in before:
                if c.ready is CLOSED and was[c.id] is CLOSING:
                    self._ended(c)

    def _named(self, n: int, do: Callable[[Connection], None]) -> Connection:
        """Whatever ends a connection ends the one that it names, and no other."""
        c, *others = [self.alive()[n], *(o for i, o in enumerate(self.alive()) if i != n)]
        was, until, others_were = c.ready, self.roster._deadlines.get(c.id), [(o.ready, o.cause) for o in others]
        do(c)
        assert c.ready is not was or self.roster._deadlines.get(c.id) == until, "a second close moved the deadline"
        assert [(o.ready, o.cause) for o in others] == others_were, "an end reached beyond its connection"
        if c.ready is CLOSED:
            assert c.id not in self.roster.connections
            if was in (OPEN, CLOSING):
                self._ended(c)
            else:
                self.ended = (*self.ended, c)[-KEPT_ENDED:]
        return c

    def _ended(self, c: Connection) -> None:
        """What an end promises: a window by its cause, the longer of two of a tab; after a bye none."""
        self.ended = (*self.ended, c)[-KEPT_ENDED:]
        assert c.cause is not None
        if c.cause is Cause.BYE:
            for tab, pending in list(self.promised.items()):
                if tab == c.tab or pending.session == c.session:
                    del self.promised[tab]
        if c.cause not in DEPARTURES:
            deadline = self.now + WINDOWS[c.cause]
            before = self.promised.get(c.tab)
            self.promised[c.tab] = Pending(c.session, max(deadline, before.deadline if before else 0.0))

    # -- the end of a step --------------------------------------------------------------------------------------

    def tell(self) -> None:
        """What changed goes to the store, and the promises are looked after."""
        if self.roster.changed:
            told = self.roster.take_contributions(self.now)
            assert self.ledger.put(self.now, NODE, 1, told) is Answer.OK
            self.roster.acknowledge(told)
            self.told, self.told_at = told, self.now
        self.roster.take_orders()
        self.ledger.take_dirty()
        self._foresee()

    def _foresee(self) -> None:
        """Which phase the promises demand, which transition that is, and whether the real code agrees."""
        active = [c for c in self.alive() if c.ready in (OPEN, CLOSING)]
        before = self.phase
        if active:
            self.phase = Phase.ONLINE
        elif before is Phase.OFFLINE:
            self.promised.clear()
        elif self.promised or any(c.ready is CONNECTING for c in self.alive()):
            self.phase = Phase.HELD
        else:
            self.phase = Phase.OFFLINE
        told = [e.change for e in self.ledger.take_events() if isinstance(e, Transition)]
        expected = []
        if (before is Phase.OFFLINE) is not (self.phase is Phase.OFFLINE):
            expected = [Change.OFFLINE if self.phase is Phase.OFFLINE else Change.ONLINE]
        assert told == expected, f"watchers were told {told}, and should have been told {expected}"

    def check(self) -> None:
        """All that must hold in a state."""
        record = self.ledger.records.get(USER)
        alive = self.alive()
        if record is None:
            assert self.phase is Phase.OFFLINE and alive == []
            return
        assert record.phase is self.phase, f"{record.phase}, and should be {self.phase}"
        assert (record.shown.status is Status.OFFLINE) is (self.phase is Phase.OFFLINE)
        stored = {c.id: c.ready for share in record.shares.values() for c in share.connections}
        assert stored == {c.id: c.ready for c in alive}
        assert {t: (h.connection.session, h.deadline) for t, h in record.holds.items()} == {
            t: (p.session, p.deadline - self.now + self.ledger.state.clock.value) for t, p in self.promised.items()
        }
        for c in alive:
            at = self.roster._deadlines.get(c.id)
            assert (at is None) is (c.ready is OPEN), "CONNECTING and CLOSING are bounded"
            assert at is None or self.now < at <= self.now + HANDSHAKE
        ahead = self.ledger._deadlines.get(USER)
        assert (ahead is None) is (not record.holds), "a window that no timer ends"
        assert (record.grace is not None) is (self.phase is Phase.HELD)

    def disturb(self) -> int:
        """Late and repeated closes, repeated contributions and reads: none of it changes anything.

        Returns:
            How many of them were tried.
        """
        before = self._exactly()
        tried = 0
        for c in self.ended:
            self.roster.close_received(c, 1001, self.now)
            self.roster.close_sent(c, Cause.EXPIRED, 4001, self.now)
            self.roster.lost(c, self.now)
            self.roster.refuse(c, self.now)
            self.roster.depart(c, Cause.BYE, self.now)
            tried += 5
        self.ledger.shown(USER)
        self.roster.active_count(USER)
        self.roster.contribution(USER, self.now)
        self.ledger.next_deadline()
        tried += 1
        assert not self.roster.changed and self.roster.take_orders() == []
        assert self._exactly() == before, "something changed that only a read or a late close came by"
        for told in self.told if self.told_at == self.now else ():  # a later repetition is built anew, with its `ago`
            if told.revision >= self.roster.revision_of(told.user):
                was = self.state()
                assert self.ledger.put(self.now, NODE, 1, [told]) is Answer.OK
                self.ledger.take_dirty()
                assert [e for e in self.ledger.take_events() if isinstance(e, Transition)] == []
                self.check()
                assert self.state() == was, "a repeated contribution changed something"
                tried += 1
        return tried

    def _exactly(self) -> tuple[object, ...]:
        record = self.ledger.records.get(USER)
        return (
            b"" if record is None else msgspec.msgpack.encode(record),
            self.ledger.state.seq,
            self.ledger.next_deadline(),
            self.roster.next_deadline(),
            [(c.id, c.ready, c.cause) for c in self.alive()],
        )

    # -- what makes a difference --------------------------------------------------------------------------------

    def state(self) -> State:
        """The canonical form: the least of the four ways to name tabs and sessions."""
        alive = self.alive()
        births = {tab: sorted({c.opened_at for c in alive if c.tab == tab}) for tab in TABS}
        connections = []
        for c in alive:
            at = self.roster._deadlines.get(c.id)
            left = 0 if at is None else round(at - self.now)
            window = 0.0 if c.cause is None else WINDOWS[c.cause]
            age = births[c.tab].index(c.opened_at)
            connections.append((TABS.index(c.tab), SESSIONS.index(c.session), str(c.ready), left, window, age))
        record = self.ledger.records.get(USER)
        holds: list[tuple[int, int, int]] = []
        rest: tuple[object, ...] = ()
        if record is not None:
            clock = self.ledger.state.clock.value
            holds = [
                (TABS.index(tab), SESSIONS.index(hold.connection.session), round(hold.deadline - clock))
                for tab, hold in record.holds.items()
            ]
            grace = record.grace
            left = -1 if grace is None else max(0, round(grace.deadline - clock))
            rest = (str(record.phase), record.shown.version > 0, left)
        return min(
            (
                tuple(sorted((t ^ tab, s ^ session, *more) for t, s, *more in connections)),
                tuple(sorted((t ^ tab, s ^ session, left) for t, s, left in holds)),
                rest,
            )
            for tab, session in ((0, 0), (0, 1), (1, 0), (1, 1))
        )


class Explored(NamedTuple):
    """How far it went."""

    states: int
    edges: int
    undisturbed: int
    """Late closes, repetitions and reads that were shown to change nothing."""
    phases: dict[str, int]
    longest_way_to_rest: int
    """Ticks from any state until nobody is CONNECTING, CLOSING or HELD."""


def explore(most: int) -> Explored:
    """Visit every state with at most so many connections at a time, and every edge, to a fixpoint."""
    start = Situation()
    first = start.state()
    states: dict[State, Situation | None] = {first: start}
    queue = [first]
    ticks: dict[State, list[State]] = {}
    phases: dict[str, int] = {}
    edges = undisturbed = 0
    for state in queue:
        here = states[state]
        assert here is not None
        states[state] = None  # visited once; its memory is needed no longer
        phases[here.phase] = phases.get(here.phase, 0) + 1
        for name, act in here.actions(most):
            there = here.copy()
            act(there)
            there.tell()
            there.check()
            edges += 1
            found = there.state()
            if name.startswith("tick"):
                ticks.setdefault(state, []).append(found)
            if found not in states:
                undisturbed += there.disturb()
                states[found] = there
                queue.append(found)
    return Explored(len(states), edges, undisturbed, phases, _ticks_to_rest(ticks))


def _ticks_to_rest(ticks: dict[State, list[State]]) -> int:
    """Every handshake, every CLOSING and every window ends by time alone; count how long the longest takes."""

    def resting(state: State) -> bool:
        connections, holds, rest = state
        return all(c[2] == OPEN for c in connections) and not holds and (not rest or rest[0] != Phase.HELD)

    waiting, rounds = {state for state in ticks if not resting(state)}, 0
    while waiting:
        rounds += 1
        assert rounds < 20, f"this never ends: {next(iter(waiting))}"
        waiting = {s for state in waiting for s in ticks[state] if not resting(s)}
    return rounds


def _copy_roster(old: Roster) -> Roster:
    new = Roster.__new__(Roster)
    new.policy, new.handshake_timeout, new.close_timeout = old.policy, old.handshake_timeout, old.close_timeout
    new.connections = {id: _copy_connection(c) for id, c in old.connections.items()}
    new._people = {}
    for user, person in old._people.items():
        copied = new._people[user] = _Person()
        copied.connections = tuple(new.connections[c.id] for c in person.connections)
        copied.revision, copied.endings, copied.leaves = person.revision, person.endings, person.leaves
    new._changed = dict(old._changed)
    new._deadlines = _copy_deadlines(old._deadlines)
    new._orders = list(old._orders)
    new._revision = old._revision
    assert vars(new).keys() == vars(old).keys()
    return new


def _copy_connection(old: Connection) -> Connection:
    new = Connection.__new__(Connection)
    for slot in Connection.__slots__:
        setattr(new, slot, getattr(old, slot))
    return new


def _copy_ledger(old: Ledger) -> Ledger:
    new = Ledger.__new__(Ledger)
    state, clock = old.state, old.state.clock
    new.limits = old.limits
    new.state = type(state)(
        state.epoch,
        state.seq,
        state.run,
        StoreClock(clock.value, clock.seen, clock.hold_until),
        dict(state.leases),
        dict(state.channels),
        dict(state.heard),
        dict(state.dead),
    )
    new.records = {}
    for user, record in old.records.items():
        new.records[user] = msgspec.structs.replace(
            record, shares=dict(record.shares), holds=dict(record.holds), members=dict(record.members)
        )
    new.rooms = {room: set(users) for room, users in old.rooms.items()}
    new.holders = {inc: set(users) for inc, users in old.holders.items()}
    new._deadlines = _copy_deadlines(old._deadlines)
    new._departed = old._departed.copy()
    new._events, new._dirty, new._inherited = list(old._events), dict(old._dirty), list(old._inherited)
    new._notices = list(old._notices)
    assert vars(new).keys() == vars(old).keys()
    return new


def _copy_deadlines(old: Deadlines[Any]) -> Deadlines[Any]:
    new: Deadlines[Any] = Deadlines()
    new._of, new._heap = dict(old._of), list(old._heap)
    return new
