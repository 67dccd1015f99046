"""Random histories that can be told twice: the same things happen to several worlds, whatever their windows are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

from stillhere.core.connection import Connection
from stillhere.core.words import Availability, Cause, ReadyState
from tests.unit.core.world import World

USERS = ("alice", "bob")
NODES = ("n1", "n2")
CODES = (1000, 1001, 1002, 1005, 4900)


class Step(NamedTuple):
    """One thing that happens; what it is about is picked among what there is, by number."""

    what: str
    user: int
    which: int
    value: int
    wait: float


def scripts(what: Sequence[str], most: int = 40) -> st.SearchStrategy[list[Step]]:
    """Lists of steps of some kinds, no two of which happen at the same instant."""
    return st.lists(
        st.builds(
            Step,
            st.sampled_from(what),
            st.sampled_from([0, 0, 1]),
            st.integers(0, 7),
            st.integers(0, 7),
            st.sampled_from([0.125, 0.5, 1.0, 2.0, 3.5, 7.875, 9.0, 14.5, 33.0]),
        ),
        max_size=most,
    )


PLAIN = (
    "connect",
    "connect",
    "end",
    "end",
    "lost",
    "close",
    "bye",
    "kick",
    "upgrade",
    "grant",
    "refuse",
    "server_close",
)
"""What happens to connections. What a tab takes over from its former connection depends on windows; these do not."""

ALL = (*PLAIN, "state", "state", "join", "leave", "kill", "delay", "deaf", "restart", "jump", "told_again")
"""With all that makes a replay harder."""

TROUBLE = ("connect", "connect", "end", "bye", "restart", "jump", "kick")
"""A store that has its own troubles, and users who come and go meanwhile."""


class Teller:
    """Lets the steps of a script happen in a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.connections: dict[int, list[Connection]] = {0: [], 1: []}
        self.runs = 1
        self.after: Callable[[], Any] = lambda: None
        """Called after every step."""

    def tell(self, script: Sequence[Step]) -> None:
        for step in script:
            self.world.advance(1 / 1024)  # no two things happen at the same instant
            getattr(self, step.what)(step)
            self.after()
            self.world.advance(step.wait)
            self.after()

    def some(self, step: Step, *ready: ReadyState) -> Connection | None:
        """One of the user's connections on a node that lives."""
        there = [c for c in self.connections[step.user] if c.ready in ready and self.world.home[c.id].alive]
        return there[step.which % len(there)] if there else None

    def begin(self, step: Step) -> Connection | None:
        nodes = [name for name in NODES if self.world.nodes[name].alive]
        if not nodes or len(self.connections[step.user]) > 30:
            return None
        tab, session = f"t{step.which % 3}", f"s{step.value % 2}"
        node = nodes[step.value % len(nodes)]
        c = self.world.begin(USERS[step.user], tab, session, node=node, in_flight=step.what == "upgrade")
        self.connections[step.user].append(c)
        return c

    def connect(self, step: Step) -> None:
        if (c := self.begin(step)) is not None:
            self.world.open(c)

    def upgrade(self, step: Step) -> None:
        self.begin(step)

    def grant(self, step: Step) -> None:
        if (c := self.some(step, ReadyState.CONNECTING)) is not None:
            self.world.open(c)

    def refuse(self, step: Step) -> None:
        if (c := self.some(step, ReadyState.CONNECTING)) is not None:
            self.world.refuse(c)

    def end(self, step: Step) -> None:
        if (c := self.some(step, ReadyState.OPEN)) is not None:
            self.world.end(c, CODES[step.value % len(CODES)])

    def close(self, step: Step) -> None:
        if (c := self.some(step, ReadyState.OPEN)) is not None:
            self.world.close(c, CODES[step.value % len(CODES)])

    def lost(self, step: Step) -> None:
        if (c := self.some(step, ReadyState.OPEN, ReadyState.CLOSING)) is not None:
            self.world.lost(c, Cause.HEARTBEAT_LOST if step.value % 2 else Cause.ABNORMAL)

    def server_close(self, step: Step) -> None:
        if (c := self.some(step, ReadyState.OPEN)) is not None:
            self.world.server_close(c, Cause.SLOW_CONSUMER if step.value % 2 else Cause.EXPIRED)

    def bye(self, step: Step) -> None:
        if (c := self.some(step, ReadyState.OPEN, ReadyState.CLOSING)) is not None:
            self.world.bye(c)

    def kick(self, step: Step) -> None:
        if step.value % 3 == 0:
            self.world.kick(USERS[step.user])

    def state(self, step: Step) -> None:
        if (c := self.some(step, ReadyState.OPEN)) is not None:
            self.world.state(c, list(Availability)[step.value % 4], {"said": step.value} if step.value > 3 else None)

    def join(self, step: Step) -> None:
        if (c := self.some(step, ReadyState.OPEN)) is not None:
            self.world.join(c, f"room {step.value % 2}", {"seat": step.value})

    def leave(self, step: Step) -> None:
        if (c := self.some(step, ReadyState.OPEN)) is not None:
            self.world.leave(c, f"room {step.value % 2}")

    def kill(self, step: Step) -> None:
        if step.value == 0:
            self.world.kill(NODES[step.which % 2])

    def delay(self, step: Step) -> None:
        self._trouble(step, delayed=bool(step.value % 2))

    def deaf(self, step: Step) -> None:
        self._trouble(step, deaf=bool(step.value % 2))

    def _trouble(self, step: Step, *, delayed: bool = False, deaf: bool = False) -> None:
        node = self.world.nodes[NODES[step.which % 2]]
        node.delayed, node.deaf = delayed, deaf

    def told_again(self, step: Step) -> None:
        """The store asks a node for everything."""
        node = self.world.nodes[NODES[step.which % 2]]
        if node.alive:
            node.roster.mark(node.roster.users())
            self.world.turn()

    def restart(self, step: Step) -> None:
        """The store's process begins anew with all it had."""
        self.runs += 1
        self.world.ledger.hello(self.world.now, f"run-{self.runs}")
        if step.value < 3:
            self.world.ledger.hold_everyone(self.world.now, Cause.NODE_DRAIN, 20.0)
        self.world.hear()
        for name in NODES:
            self.told_again(step._replace(which=NODES.index(name)))

    def jump(self, step: Step) -> None:
        """The store stood still, or its clock was set."""
        self.world.now += 9.0
        self.world.tick()
