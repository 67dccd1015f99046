"""Scripted schedules: stories that once went wrong or would without some rule, and that random search seldom meets."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from stillhere.core.words import UserId
from stillhere.simulation import Fault, FaultKind, Plan, Report, simulate
from stillhere.simulation.client import Tab
from stillhere.simulation.house import Desk
from stillhere.simulation.server import Server
from stillhere.simulation.trouble import Image
from stillhere.simulation.world import World

Script = Callable[[World], None]

CALM = Plan(0, users=0, chaos=60.0, quiet=90.0)


def play(script: Script, *faults: Fault, seed: int = 0, trace: bool = False, **plan: object) -> Report:
    """Run a script in a world without other users; further arguments are those of a plan."""
    settled = msgspec.structs.replace(CALM, seed=seed, faults=faults, **plan)
    return simulate(seed, plan=settled, script=script, trace=trace)


class Person:
    """Somebody of whom a script decides everything; watchers follow him, and the end knows whether he stays."""

    def __init__(self, world: World, name: str = "p") -> None:
        self.world = world
        self.name = name
        self.tabs: list[Tab] = []
        self.staying: list[Tab] = []
        world.users.append(name)
        world.people.append(self)  # type: ignore[arg-type]

    def begin(self) -> None:
        """The script does it."""

    def decide(self) -> None:
        """Who is there stays."""
        self.staying = [tab for tab in self.tabs if tab.wanted]

    def tab(self, id: str, node: int, session: int = 0) -> Tab:
        """A tab that goes to one node."""
        tab = Tab(self.world, self.name, f"{self.name}-{id}", session, home=node)
        self.tabs.append(tab)
        return tab


def gap_hold(world: World) -> None:
    """He comes back while the store is away; his window would be over with the first second of the store's return."""
    at, tab = world.clock.after, Person(world).tab("t1", 0)
    at(5.0, tab.open)
    at(20.0, tab.reload, None, 23.0)


GAP_HOLD = (Fault(34.4, FaultKind.HANG, seconds=16.0),)


def shed_departure(world: World) -> None:
    """He closes a tab on a node that is cut off, and says bye on another one: the late news open no window."""
    at, person = world.clock.after, Person(world)
    first, second = person.tab("t1", 0), person.tab("t2", 1)
    at(4.0, first.open)
    at(4.5, second.open)
    at(11.0, second.shut, 1001)
    at(12.0, first.bye)


CUT_SHORTLY = (Fault(10.0, FaultKind.CUT, 1, 4.0),)


def half_joined(world: World) -> None:
    """After a restart both partitions take the new incarnation in; the answer of one of them is lost."""
    at = world.clock.after
    for name in ("p0", "p1", "q0", "q1"):  # two in each partition
        person = Person(world, name)
        at(4.0, person.tab("t1", 0).open)
        at(20.2, person.tab("t2", 0).open)
    server = world.servers[0]
    joined: list[int] = []
    for desk in world.house.desks:
        _lose_answer_of_join(world, server, desk, joined)


def _lose_answer_of_join(world: World, server: Server, desk: Desk, joined: list[int]) -> None:
    """The node is cut off as soon as the second partition has taken it in: of that it does not hear."""
    whole = desk.join

    def join(*arguments: object) -> object:
        told = whole(*arguments)  # type: ignore[arg-type]
        if world.clock.now > 20.0 and str(arguments[0]).startswith("n0"):
            desk.join = whole  # type: ignore[method-assign]
            if joined:
                server.sever(True)
                world.clock.after(3.0, server.sever, False)
            joined.append(desk.number)
        return told

    desk.join = join  # type: ignore[method-assign, assignment]


RESTART = (Fault(20.0, FaultKind.RESTART, down=1.0),)


def silent_rollback(world: World) -> None:
    """Writes are lost, and no other run of the store says so."""
    at, tab = world.clock.after, Person(world).tab("t1", 0)
    desk = world.house.desks[0]
    images: list[Image] = []
    at(30.0, lambda: images.append((*desk.image(), world.inspector.image(desk))))
    at(30.5, tab.open)
    at(31.5, _roll_back, world, desk, images)


def _roll_back(world: World, desk: Desk, images: list[Image]) -> None:
    seq, log = desk.ledger.state.seq, list(desk.log)
    desk.restore(images[0][:2])
    desk.ledger.state.seq, desk.log = seq, log
    world.inspector.restore(desk, images[0][2])
    world.inspector._status.pop("p", None)


def ghost_of_failover(world: World) -> None:
    """His window runs out, and a failover brings the window back: nobody may see him flash up."""
    at, tab = world.clock.after, Person(world).tab("t1", 0)
    at(5.0, tab.open)
    at(20.0, tab.shut, 1001)


def back_after_failover(world: World) -> None:
    """The same, and he comes back within that window: everybody must see it."""
    at, tab = world.clock.after, Person(world).tab("t1", 0)
    at(5.0, tab.open)
    at(20.0, tab.reload, 1001, 12.0)


FAILOVER = (Fault(28.9, FaultKind.FAILOVER, seconds=1.0, down=0.5),)


def nobody(world: World) -> None:
    """Only the watchers."""


SAME_EPOCH = (
    Fault(8.0, FaultKind.JUMP_BACK, seconds=7200.0),
    Fault(9.0, FaultKind.LONG_CUT, 2, 30.0),
    Fault(12.0, FaultKind.LOSS, down=0.5),
    Fault(25.0, FaultKind.PAUSE, 0, 20.0),
    Fault(25.0, FaultKind.PAUSE, 1, 22.0),
    Fault(26.0, FaultKind.LOSS, down=0.5),
)
"""Two losses, each first greeted by nodes that know of none before; and the clock is in the past."""

FORGOTTEN_EPOCH = (
    Fault(9.0, FaultKind.LONG_CUT, 2, 25.0),
    Fault(10.0, FaultKind.CRASH, 0, 3.0),
    Fault(10.0, FaultKind.CRASH, 1, 3.0),
    Fault(11.0, FaultKind.LOSS, down=0.5),
)
"""Everything is lost, and greeted first by nodes that know nothing."""


def come_and_go(world: World) -> None:
    """He is there after the loss, and goes."""
    at, tab = world.clock.after, Person(world).tab("t1", 0)
    at(20.0, tab.open)
    at(50.0, tab.bye)


def late_close(world: World) -> None:
    """A put is executed after its line was given up: the tab's close, told over the new line, must stand."""
    at, tab = world.clock.after, Person(world).tab("t1", 0)
    at(10.0, _lose_next_put, world, UserId("p"))
    at(10.5, tab.open)
    at(15.0, tab.bye)


def _lose_next_put(world: World, user: UserId) -> None:
    """The next put of this user is lost on its way, and arrives five seconds later."""
    desk = world.house.desks[0]
    whole = desk.put

    def put(*arguments: object) -> object:
        if not any(told.user == user for told in arguments[2]):  # type: ignore[attr-defined]
            return whole(*arguments)  # type: ignore[arg-type]
        desk.put = whole  # type: ignore[method-assign]
        server = world.servers[0]
        server.sever(True)
        world.clock.after(0.5, server.sever, False)
        world.clock.after(7.0, whole, *arguments)
        return whole(*arguments)  # type: ignore[arg-type]

    desk.put = put  # type: ignore[method-assign, assignment]


def paused_and_reaped(world: World) -> None:
    """A node stands still for so long that it is declared dead; its requests come late."""
    at, tab = world.clock.after, Person(world).tab("t1", 0)
    at(5.0, tab.open)


LONG_PAUSE = (Fault(20.0, FaultKind.PAUSE, 0, 25.0),)


def jump_and_bye(world: World) -> None:
    """A bye before the clock went back covers no window after it."""
    at, person = world.clock.after, Person(world)
    first, second = person.tab("t1", 0), person.tab("t2", 1)
    at(4.0, first.open)
    at(4.5, second.open)
    at(8.0, first.bye)
    at(20.0, second.reload, 1001, 5.0)


BACK_AN_HOUR = (Fault(15.0, FaultKind.JUMP_BACK, seconds=3600.0),)


def past_window_in_a_hold(world: World) -> None:
    """After an outage one node tells an end whose window is past, before another tells that he is back."""
    at, person = world.clock.after, Person(world)
    first, second = person.tab("t1", 0), person.tab("t2", 1)
    at(4.0, first.open)
    at(22.0, first.shut, 1000)
    at(27.0, second.open)


FORGOTTEN_IN_THE_PAST = (Fault(8.0, FaultKind.JUMP_BACK, seconds=7200.0), *FORGOTTEN_EPOCH)
"""The same, and the clock is in the past: the new epoch is lower than the one that a node knows."""

OUTAGE = (Fault(20.0, FaultKind.HANG, seconds=15.0),)


def clock_jumps_in_a_window(world: World) -> None:
    """He is gone for ten seconds; meanwhile the store's clock jumps ahead by an hour."""
    at, tab = world.clock.after, Person(world).tab("t1", 0)
    at(5.0, tab.open)
    at(20.0, tab.reload, None, 10.0)


AHEAD_AN_HOUR = (Fault(22.0, FaultKind.JUMP_AHEAD, seconds=3600.0),)


def comes_while_the_reader_jams(world: World) -> None:
    """A node's log reader gets nothing new, without an error; somebody comes."""
    world.clock.after(35.0, Person(world).tab("t1", 1).open)


JAM = (Fault(30.0, FaultKind.STARVE, 0),)


def much_happens_meanwhile(world: World) -> None:
    """A node is cut off while the log, which is short, forgets what it missed."""
    at, tab = world.clock.after, Person(world).tab("t1", 1)
    at(8.0, tab.open)
    for number, availability in enumerate(("busy", "away", "busy", "active", "busy", "active", "away", "busy")):
        at(21.0 + 0.7 * number, tab.state, availability)


CUT_FROM_THE_LOG = (Fault(20.0, FaultKind.CUT, 0, 8.0),)


def slowly_admitted(world: World) -> None:
    """The page comes back in time, and the application takes until after the window to admit it."""
    at, tab = world.clock.after, Person(world).tab("t1", 0)
    at(5.0, tab.open)
    at(15.0, setattr, world.servers[0], "admission", 4.0)
    at(20.0, tab.reload, 4900, 6.0)


def two_windows(world: World) -> None:
    """A tab breaks off (15 s), then another one is closed (3 s): the longer window holds him."""
    at, person = world.clock.after, Person(world)
    first, second = person.tab("t1", 0), person.tab("t2", 1)
    at(4.0, first.open)
    at(4.5, second.open)
    at(20.0, first.shut, None)
    at(21.0, second.shut, 1000)


def one_of_two_tabs(world: World) -> None:
    """One tab is closed; its window runs out while the other one is there."""
    at, person = world.clock.after, Person(world)
    first, second = person.tab("t1", 0), person.tab("t2", 1)
    at(4.0, first.open)
    at(4.5, second.open)
    at(20.0, first.shut, 1001)


def two_partitions_lost(world: World) -> None:
    """Both partitions say at once, in answer to one put, that they have lost everything."""
    at = world.clock.after
    for name in ("p0", "p1", "q0", "q1"):
        person = Person(world, name)
        at(4.0, person.tab("t1", 0).open)
        at(20.2, person.tab("t2", 0).open)


LOSS = (Fault(20.0, FaultKind.LOSS, down=1.0),)


def slow_to_return(world: World) -> None:
    """After a loss one node is heard seconds after the others; its users are there all the time."""
    at = world.clock.after
    at(5.0, Person(world).tab("t1", 0).open)
    server = world.servers[0]
    at(30.5, lambda: setattr(server.path, "loss", 1.0))
    at(34.5, lambda: setattr(server.path, "loss", 0.0))


LATER_LOSS = (Fault(30.0, FaultKind.LOSS, down=1.0),)
FLUSH = (Fault(20.0, FaultKind.FLUSH),)


def beats_unanswered(world: World) -> None:
    """No renewal of a node is ever answered, and the others come after it has joined; then it alone is cut off."""
    at, person = world.clock.after, Person(world)
    at(12.0, person.tab("t1", 0).open)
    server = world.servers[0]
    for other in world.servers[1:]:
        boot = other.boot
        other.boot = lambda: None  # type: ignore[method-assign]
        at(6.0, boot)
    for desk in world.house.desks:
        _lose_answers_of_beats(world, server, desk)


def _lose_answer(world: World, server: Server) -> None:
    """Of the request that is being executed."""
    server.path.loss = 1.0
    world.clock.after(0.0, setattr, server.path, "loss", 0.0)


def _lose_answers_of_beats(world: World, server: Server, desk: Desk) -> None:
    whole = desk.beat

    def beat(*arguments: object) -> object:
        if str(arguments[0]).startswith("n0") and world.clock.now < 20.0:
            _lose_answer(world, server)
        return whole(*arguments)  # type: ignore[arg-type]

    desk.beat = beat  # type: ignore[method-assign, assignment]


CUT_FOR_LONG = (Fault(16.0, FaultKind.LONG_CUT, 0, 60.0),)


def two_ends_told_again(world: World) -> None:
    """The page comes back for a moment and goes again; what is told of it is answered only the third time.

    The store has become slow by then: something ended longer ago than the request says.
    """
    at, tab = world.clock.after, Person(world).tab("t1", 0)
    at(5.0, tab.open)
    at(19.8, _lose_answers_of_puts, world, UserId("p"), 2)
    at(20.0, tab.reload, 1001, 0.5)
    at(21.0, tab.shut, 1000)
    at(23.0, setattr, world.house, "slow", 0.9)
    at(35.0, setattr, world.house, "slow", 0.0)


def _lose_answers_of_puts(world: World, user: UserId, times: int) -> None:
    """The next puts of this user that the first node sends are executed, and not answered."""
    desk = world.house.desks[0]
    whole, left = desk.put, [None] * times

    def put(*arguments: object) -> object:
        if left and any(told.user == user for told in arguments[2]):  # type: ignore[attr-defined]
            left.pop()
            _lose_answer(world, world.servers[0])
        return whole(*arguments)  # type: ignore[arg-type]

    desk.put = put  # type: ignore[method-assign, assignment]


def kicked_unknown(world: World) -> None:
    """He came for a moment, and is kicked before the store was told of him; then he comes anew.

    The node waits for the answer to a request about somebody else.
    """
    at, other, person = world.clock.after, Person(world, "q"), Person(world)
    first, second = person.tab("t1", 0), person.tab("t2", 0)
    server = world.servers[1]
    at(19.0, _lose_answers_of_puts, world, UserId("q"), 1)
    at(19.95, other.tab("t1", 0).open)
    at(20.2, first.open)
    at(20.6, first.shut, 1001)
    at(21.0, lambda: server.loop.deliver(lambda: server.loop.create_task(world._kick(server, "p"))))
    at(21.5, second.open)
    at(24.0, second.shut, 1000)
