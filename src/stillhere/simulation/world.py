"""Everything in one place: the clock, the store, the nodes, the users, and what happens to them."""

from __future__ import annotations

import logging
import random
import secrets
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import msgspec

from stillhere.core.clock import ClockLimits
from stillhere.core.record import Record
from stillhere.core.words import Cause, UserId
from stillhere.server.auth import mint
from stillhere.server.neighbours import dismiss
from stillhere.server.peer import Peer
from stillhere.server.secrets import Secret
from stillhere.server.settings import Settings, load_settings
from stillhere.server.topics import RoomTopic, UserTopic
from stillhere.simulation.client import Tab, Wire
from stillhere.simulation.ending import examine
from stillhere.simulation.house import START, House
from stillhere.simulation.inspector import Inspector
from stillhere.simulation.loops import Clock
from stillhere.simulation.report import Moment, Report
from stillhere.simulation.schedule import NODES, Fault, Plan
from stillhere.simulation.server import MakeStore, Server, cluster_store
from stillhere.simulation.trouble import Trouble
from stillhere.simulation.users import User
from stillhere.simulation.view import View
from stillhere.store.contract import StoreError

SECRET = "a secret of forty bytes, for simulation.."
HOST = "here.example:7400"
ROOMS = ("r1", "r2")


@lru_cache(maxsize=64)
def _settings(name: str, profile: str) -> Settings:
    return load_settings(None, {}, {"auth.secret": SECRET, "server.node": name, "grace.profile": profile})


class World:
    """See the module."""

    host = HOST

    def __init__(
        self,
        plan: Plan,
        settings: Settings | None = None,
        *,
        trace: bool = False,
        hasty: bool = False,
        make_store: MakeStore = cluster_store,
    ) -> None:
        """Build it; nothing runs yet.

        Args:
            plan: what is to happen.
            settings: of all nodes; those of the plan's profile if None.
            trace: keep a story of what happened.
            hasty: stop at the first violation.
            make_store: what the nodes stand on.
        """
        self.plan = plan
        self.report = Report(plan)
        self.clock = Clock()
        self.make_store = make_store
        self.settings = settings or _settings("n0", plan.profile)
        self.policy = self.settings.grace.policy
        self.inspector = Inspector(self)
        cluster = self.settings.cluster
        self._limits = limits = ClockLimits(gap_hold=cluster.beat + 1.0, recovery_hold=cluster.lease + cluster.beat)
        self.house = House(
            self.clock, self.inspector, partitions=plan.partitions, retention=plan.retention, clock_limits=limits
        )
        self._tracing = trace
        self._hasty = hasty
        self._rng = random.Random(f"{plan.seed} world")
        self.servers = [Server(self, number, self._settings_of(number)) for number in range(NODES)]
        self.trouble = Trouble(self)
        self.wires: list[Wire] = []
        self.hiding: set[str] = set()
        self.jumps: list[tuple[float, float]] = []
        """When the store's clock jumped, and by how many seconds."""
        self.outage_over_at = -100.0
        """When the store came back from an outage that its clock must have noticed."""
        self._alive_at: dict[str, float] = {}
        self.quiet = False
        self.watchers = [self._watcher(number) for number in range(NODES + 1)]
        self.people = [User(self, f"u{number}") for number in range(plan.users)]
        self.users = [tab.user for tab in self.watchers] + [person.name for person in self.people]
        for tab in self.watchers:
            tab.view = View(self, tab.user, self.users, list(ROOMS))
        windows = max(self.policy.windows.values())
        heartbeat = self.settings.heartbeat
        self.longest_ghost = (
            1.2 * heartbeat.interval
            + heartbeat.timeout
            + cluster.lease
            + windows
            + self.policy.window(Cause.NODE_LOST)
            + self.settings.limits.handshake_timeout
            + 5.0
        )

    # -- what happens -----------------------------------------------------------------------------------------------

    def run(self) -> Report:
        """From the start to the end of the quiet."""
        plan, clock = self.plan, self.clock
        for server in self.servers:
            server.boot()
        for number, tab in enumerate(self.watchers):
            clock.after(0.5 + number * 0.1, tab.open)
        for person in self.people:
            person.begin()
        self.trouble.schedule(plan.faults)
        clock.after(plan.quiet_at, self._calm_down)
        self._tick()
        self.inspector.touch.begin()
        end = plan.quiet_at + plan.quiet
        clock.run(end)
        if not clock.halted:
            examine(self)
        self.report.seconds = clock.now
        self.report.steps = clock.steps
        return self.report

    def end(self) -> None:
        """Leave nothing behind."""
        for server in self.servers:
            server.bury()

    def _tick(self) -> None:
        self.inspector.look()
        self.clock.after(1.0, self._tick)

    def _calm_down(self) -> None:
        """From now on nobody does anything: some stay, the others go."""
        self.quiet = True
        self.note("", "quiet from now on")
        for server in self.servers:
            server.path.loss = 0.0
            server.path.heard_at = self.clock.now
        for person in self.people:
            person.decide()
        for tab in self.watchers:
            tab.open()

    # -- what the others ask ----------------------------------------------------------------------------------------

    def note(self, user: str, what: str, *args: object) -> None:
        """A line of the story."""
        if self._tracing:
            self.report.trace.append(Moment(self.clock.now, what % args, user))

    def token(self, user: str, session: str) -> str:
        """A token that allows everything."""
        return _token(user, session)

    def on_violation(self) -> None:
        """A promise was broken: a hasty run ends here."""
        if self._hasty:
            self.clock.halted = True

    def ahead(self, since: float) -> float:
        """By how much the store's clock may have run ahead of time since an instant, in seconds.

        It moves by one step at most where its server's clock jumps; a jump that is no larger than a busy server's
        pause is taken for one.
        """
        limits = self._limits
        return sum(
            step if step <= limits.gap_limit else limits.gap_step for at, step in self.jumps if at >= since and step > 0
        )

    def choose(self, tab: Tab) -> Server:
        """Where the load balancer sends a tab: to a node that answers its health check, as far as it knows."""
        if tab.home is not None and (self.quiet or self.servers[tab.home].up):
            return self.servers[tab.home]
        sound = [s for s in self.servers if s.up and not s.paused and s.node is not None and s.node.ready is None]
        if sound and tab.rng.random() < 0.9:
            return tab.rng.choice(sound)
        return tab.rng.choice([s for s in self.servers if s.up] or self.servers)

    def opened(self, wire: Wire) -> None:
        """A connection was made."""
        self.wires.append(wire)
        if len(self.wires) > 200:
            self.wires = [w for w in self.wires if not w.lost and not w.loop.dead]

    def wires_of(self, user: str) -> Iterator[Wire]:
        """Connections of a user that may be alive."""
        return (wire for wire in self.wires if wire.tab.user == user)

    def last_alive(self, user: str) -> float:
        """When a user last had a connection; -1 for never."""
        if any(wire.alive or (wire.counted and not wire.loop.dead) for wire in self.wires_of(user)):
            return self.clock.now  # or a node still believes so: nobody has told it otherwise
        return self._alive_at.get(user, -1.0)

    def closed(self, wire: Wire) -> None:
        """A connection is over, on either side."""
        self._alive_at[wire.tab.user] = self.clock.now

    def dismissed(self, tab: Tab) -> None:
        """The server told a tab not to come back; in the quiet its user loads the page anew."""
        if self.quiet and (tab.view is not None or any(tab in person.staying for person in self.people)):
            self.clock.after(2.0, tab.open)

    def process_ended(self, server: Server) -> None:
        """The kernel of the node resets what was open."""
        for wire in self.wires:
            if wire.server is server and wire.loop.dead and not wire.lost:
                wire.lost = True
                self.closed(wire)
                if not (wire.given_up or wire.vanished or wire.closed_by_node):
                    self.clock.after(wire.latency, wire.tab.ended, wire, 1006)

    def kick(self, user: str) -> None:
        """An operator's word to a node."""
        up = [server for server in self.servers if server.up and not server.paused]
        if up:
            server = self._rng.choice(up)
            self.note(user, "is kicked on %s", server.name)
            server.loop.deliver(lambda: server.loop.create_task(self._kick(server, user)))

    async def _kick(self, server: Server, user: str) -> None:
        if server.node is None:
            return
        self.inspector.kicked_at[user] = began = self.clock.now
        try:
            await dismiss(server.node, UserId(user), "kicked", Cause.KICKED, lambda: None)
        except StoreError:
            self.note(user, "is kicked on %s alone: the others could not be told", server.name)
        else:
            self.inspector.kicks.append((self.clock.now, began, user))

    def partition_of(self, user: str) -> int:
        """Which desk has a user."""
        node = next((server.node for server in self.servers if server.node is not None), None)
        return node.store.partition_of(UserId(user)) if node is not None and len(self.house.desks) > 1 else 0

    def record_of(self, user: str) -> Record | None:
        """What the store has of a user."""
        for desk in self.house.desks:
            record = desk.ledger.records.get(UserId(user))
            if record is not None:
                return record
        return None

    # -- inside -----------------------------------------------------------------------------------------------------

    def _settings_of(self, number: int) -> Settings:
        """The same for all nodes, but for their names."""
        server = msgspec.structs.replace(self.settings.server, node=f"n{number}")
        store = msgspec.structs.replace(self.settings.store, url="redis://simulated.example")
        cluster = msgspec.structs.replace(self.settings.cluster, address=f"http://n{number}.example")
        auth = msgspec.structs.replace(self.settings.auth, secret=Secret(SECRET), audience=None, issuer=None)
        return msgspec.structs.replace(self.settings, server=server, auth=auth, store=store, cluster=cluster)

    def _watcher(self, number: int) -> Tab:
        """One per node, and one that reads slowly."""
        slow = number == NODES
        tab = Tab(self, f"w{number}", f"w{number}-tab", home=None if slow else number)
        tab.rooms = set(ROOMS)
        if slow:
            tab.capacity = 2000
            self.clock.after(1.0, self._read_slowly, tab)
        return tab

    def _read_slowly(self, tab: Tab) -> None:
        if tab.wire is not None:
            tab.wire.clock.after(0.0, tab.wire.loop.deliver, tab.wire.drain)
        self.clock.after(self._rng.uniform(0.5, 6.0), self._read_slowly, tab)


@lru_cache(maxsize=4096)
def _token(user: str, session: str) -> str:
    return mint(SECRET, user, now=START, ttl=86_400.0, sid=session, watch="*", rooms="*")


class _Seeded:
    """In place of the operating system's randomness: a simulation must be able to repeat itself."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"{seed} secrets")

    def token_hex(self, size: int) -> str:
        return f"{self._rng.getrandbits(8 * size):0{2 * size}x}"

    token_urlsafe = token_hex

    def randbits(self, bits: int) -> int:
        return self._rng.getrandbits(bits)

    def randbelow(self, bound: int) -> int:
        return self._rng.randrange(bound)


def _hash_of_peer(peer: Peer) -> int:
    return zlib.crc32(peer.claim.encode())


def _hash_of_user(topic: UserTopic) -> int:
    return zlib.crc32(topic.user.encode())


def _hash_of_room(topic: RoomTopic) -> int:
    return zlib.crc32(topic.name)


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Ids come from the seed, sets have the same order each time, and nothing is logged."""
    seeded = _Seeded(seed)
    names = ("token_hex", "token_urlsafe", "randbits", "randbelow")
    changes: list[tuple[object, str, object]] = [(secrets, name, getattr(seeded, name)) for name in names]
    # by default the hash of an object is its address, which decides in which order a set of them is gone through
    changes += [
        (Peer, "__hash__", _hash_of_peer),
        (UserTopic, "__hash__", _hash_of_user),
        (RoomTopic, "__hash__", _hash_of_room),
    ]
    former = [(of, name, getattr(of, name)) for of, name, _ in changes]
    logger = logging.getLogger("stillhere")
    level = logger.level
    try:
        logger.setLevel(logging.CRITICAL + 1)
        for of, name, value in changes:
            setattr(of, name, value)
        yield
    finally:
        logger.setLevel(level)
        for of, name, value in former:
            setattr(of, name, value)


def simulate(
    seed: int,
    settings: Settings | None = None,
    *,
    plan: Plan | None = None,
    trace: bool = False,
    hasty: bool = False,
    make_store: MakeStore = cluster_store,
    script: Callable[[World], None] | None = None,
) -> Report:
    """Run one schedule; not in a process in which a real node runs: it replaces what the whole process draws ids from.

    Args:
        seed: decides everything.
        settings: of the nodes, in place of the defaults: to try one's own windows and timings.
        plan: what is to happen, in place of what the seed draws.
        trace: keep a story of what happened, for :meth:`Report.story`.
        hasty: stop at the first violation.
        make_store: builds a node's store over an engine; for other procedures than the production one.
        script: called with the world before it starts, to arrange more.

    Returns:
        What was found. The same arguments give the same report.
    """
    with _repeatable(seed):
        world = World(plan or Plan.of(seed), settings, trace=trace, hasty=hasty, make_store=make_store)
        try:
            if script is not None:
                script(world)
            return world.run()
        finally:
            world.end()


__all__ = ["Fault", "World", "simulate"]
