"""Random histories of users, connections, tabs, sessions, rooms and two nodes, compared with a second opinion."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from stillhere.core.connection import Connection
from stillhere.core.words import Availability, Cause, ReadyState, UserId
from tests.unit.core.oracle import CODES, Oracle, User
from tests.unit.core.world import Node, World

USERS = ("alice", "bob")
NODES = ("n1", "n2")
ROOMS = ("red", "blue")

users = st.sampled_from(USERS)
nodes = st.sampled_from(NODES)
rooms = st.sampled_from(ROOMS)
tabs = st.sampled_from(["t1", "t2", "t3"])
sessions = st.sampled_from(["s1", "s2"])
codes = st.sampled_from([1000, 1001, 1002, 1005, 3000, 4900])
closes = st.sampled_from([Cause.EXPIRED, Cause.PROTOCOL_ERROR, Cause.HEARTBEAT_LOST])
losses = st.sampled_from([Cause.ABNORMAL, Cause.HEARTBEAT_LOST])


class Mirrored(World):
    """A world whose nodes, store and clock tell the oracle what they do, and nothing else."""

    def __init__(self) -> None:
        self.oracle = Oracle()
        super().__init__(nodes=NODES)

    def tick(self) -> None:
        self.oracle.timers(self.now)
        super().tick()

    def tell(self, node: Node) -> None:
        super().tell(node)
        self.oracle.tell(node.name, self.now)

    def sweep(self) -> None:
        super().sweep()
        self.oracle.sweep(self.now)


class Histories(RuleBasedStateMachine):
    """Every rule does one thing to the real code and to the oracle."""

    connections: Bundle[Connection] = Bundle("connections")
    roaming = True
    """Whether tabs and sessions are found on either node."""

    def __init__(self) -> None:
        super().__init__()
        self.world = Mirrored()
        self.oracle = self.world.oracle

    @rule(target=connections, user=users, tab=tabs, session=sessions, node=nodes)
    def connect(self, user: str, tab: str, session: str, node: str) -> Connection:
        self._moment()
        tab, session = self._of(tab, node), self._of(session, node)
        self.oracle.begin(self._next(), user, node, tab, session, self.world.now)
        self.oracle.open(self._next(), self.world.now)
        return self.world.connect(user, tab, session, node=node)

    @rule(target=connections, user=users, tab=tabs, session=sessions, node=nodes)
    def upgrade(self, user: str, tab: str, session: str, node: str) -> Connection:
        self._moment()
        tab, session = self._of(tab, node), self._of(session, node)
        self.oracle.begin(self._next(), user, node, tab, session, self.world.now)
        return self.world.begin(user, tab, session, node=node)

    @rule(c=connections)
    def grant(self, c: Connection) -> None:
        self._moment()
        if c.ready is ReadyState.CONNECTING:
            self.oracle.open(c.id, self.world.now)
            self.world.open(c)

    @rule(c=connections)
    def refuse(self, c: Connection) -> None:
        self._moment()
        if c.ready in (ReadyState.CONNECTING, ReadyState.CLOSED):
            self.oracle.refuse(c.id, self.world.now)
            self.world.refuse(c)

    @rule(c=connections, code=codes)
    def close_frame(self, c: Connection, code: int) -> None:
        self._moment()
        if c.ready is not ReadyState.CONNECTING:
            self.oracle.closing(c.id, _cause(code), self.world.now)
            self.world.close(c, code)

    @rule(c=connections, cause=closes)
    def server_closes(self, c: Connection, cause: Cause) -> None:
        self._moment()
        if c.ready is not ReadyState.CONNECTING:
            self.oracle.closing(c.id, cause.value, self.world.now)
            self.world.server_close(c, cause)

    @rule(c=connections, cause=losses)
    def tcp_ends(self, c: Connection, cause: Cause) -> None:
        self._moment()
        self.oracle.lost(c.id, cause.value, self.world.now)
        self.world.lost(c, cause)

    @rule(target=connections, c=consumes(connections), code=codes, after=st.sampled_from([0, 0.125, 2, 7]))
    def reload(self, c: Connection, code: int, after: float) -> Connection:
        """Close and come back as the same tab."""
        if c.ready is not ReadyState.CONNECTING:
            self.oracle.closing(c.id, _cause(code), self.world.now)
            self.oracle.lost(c.id, "abnormal", self.world.now)
            self.world.end(c, code)
        self.world.advance(after)
        node = self.world.home[c.id].name
        self._moment()
        self.oracle.begin(self._next(), c.user, node, c.tab, c.session, self.world.now)
        self.oracle.open(self._next(), self.world.now)
        return self.world.connect(c.user, c.tab, c.session, node=node)

    @rule(c=connections, again=st.integers(1, 3))
    def late_and_repeated_close(self, c: Connection, again: int) -> None:
        if c.ready is ReadyState.CLOSED:
            for _ in range(again):
                self.world.close(c, 1001)
                self.world.server_close(c)
                self.world.lost(c)

    @rule(c=connections)
    def bye(self, c: Connection) -> None:
        self._moment()
        self.oracle.bye(c.id, self.world.now)
        self.world.bye(c)

    @rule(user=users)
    def kick(self, user: str) -> None:
        self._moment()
        for node in NODES:
            self.oracle.kick(user, node, self.world.now)
        self.world.kick(user)

    @rule(c=connections, availability=st.sampled_from(list(Availability)))
    def state(self, c: Connection, availability: Availability) -> None:
        self._moment()
        if c.ready is not ReadyState.CONNECTING:
            self.oracle.state(c.id, availability.value, self.world.now)
            self.world.state(c, availability, {"said": availability.value})

    @rule(c=connections, room=rooms)
    def join(self, c: Connection, room: str) -> None:
        self._moment()
        if c.ready is not ReadyState.CONNECTING:
            self.oracle.join(c.id, room, self.world.now)
            self.world.join(c, room)

    @rule(c=connections, room=rooms)
    def leave(self, c: Connection, room: str) -> None:
        self._moment()
        if c.ready is not ReadyState.CONNECTING:
            self.oracle.leave(c.id, room, self.world.now)
            self.world.leave(c, room)

    @rule(seconds=st.sampled_from([0.125, 0.5, 1, 3, 5, 8, 15]))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(user=users)
    def read(self, user: str) -> None:
        self.world.shown(user)
        for node in self.world.nodes.values():
            node.roster.active_count(UserId(user))
            node.roster.contribution(UserId(user), self.world.now)

    @invariant()
    def what_is_shown_is_what_the_oracle_says(self) -> None:
        for name in USERS:
            expected = self.oracle.user(name)
            assert self._seen(name) == _said(expected), name
        for room in ROOMS:
            assert self.world.members(room) == {u for u in USERS if room in self.oracle.user(u).rooms}

    def _of(self, name: str, node: str) -> str:
        return name if self.roaming else f"{name} of {node}"

    def _seen(self, name: str) -> tuple[object, ...]:
        record, grace = self.world.record(name), self.world.grace(name)
        deadline = self.world.deadline(name) if grace and record.holds else None
        shown = record.shown
        return record.phase.value, shown.status.value, shown.last_seen_at, deadline, record.active_count

    def _moment(self) -> None:
        """No two things happen at the same instant."""
        self.world.advance(1 / 1024)

    def _next(self) -> str:
        return f"c{self.world.ids + 1:04}"

    def teardown(self) -> None:
        """Whatever happened, it all ends: nobody is present when everybody has gone and time has passed."""
        for node in self.world.nodes.values():
            node.delayed = node.deaf = False
        self.world.turn()
        for node in self.world.nodes.values():
            for c in list(node.roster.connections.values()):
                self.oracle.lost(c.id, "abnormal", self.world.now)
                self.world.lost(c)
        self.world.advance(16)
        self.what_is_shown_is_what_the_oracle_says()
        for name in USERS:
            assert self.world.record(name).phase == "OFFLINE"
        for node in self.world.nodes.values():
            assert node.roster.users() == [] and node.roster.next_deadline() is None
        assert self.world.ledger.windows_pending == 0


class LossyHistories(Histories):
    """The store may be slow, or its replies may be lost, so that nodes tell late, and what it has merged already.

    Each tab and session keeps to one node here, and a node has one of the two troubles at a time: what is told late may
    be judged by what the store has seen meanwhile. docs/verification.md says what can come of that.
    """

    roaming = False

    @rule(node=nodes, delayed=st.booleans(), deaf=st.booleans())
    def the_store_is_in_trouble(self, node: str, delayed: bool, deaf: bool) -> None:
        at = self.world.nodes[node]
        at.delayed = at.deaf = False
        self.world.turn()
        at.delayed, at.deaf = delayed, deaf and not delayed
        self.world.turn()


def _said(user: User) -> tuple[object, ...]:
    deadline = user.deadline if user.windows and user.phase == "HELD" else None
    return user.phase, user.status, user.shown_ended_at, deadline, len(user.present)


def _cause(code: int) -> str:
    return CODES.get(code, "client_close")


TWICE = 2 * settings().max_examples

TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=TWICE, stateful_step_count=50)
TestLossyHistories = LossyHistories.TestCase
TestLossyHistories.settings = settings(max_examples=TWICE, stateful_step_count=50)
