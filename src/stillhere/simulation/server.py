"""One node of the simulated cluster: a process with the production code in it, which may stand still, die, return."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stillhere.core.connection import Connection
from stillhere.core.events import Event
from stillhere.core.words import Incarnation
from stillhere.server.auth import Authenticator, Identity
from stillhere.server.eventlog import EventLog
from stillhere.server.keeper import GATHER
from stillhere.server.node import Node
from stillhere.server.settings import Settings
from stillhere.server.socket import UpgradeRequest
from stillhere.simulation.house import START
from stillhere.simulation.loops import NodeLoop, make_loop
from stillhere.simulation.network import LedgerEngine, Path
from stillhere.store.cluster.store import ClusterStore
from stillhere.store.contract import Store, StoreError

if TYPE_CHECKING:
    from stillhere.simulation.world import World

MakeStore = Callable[[LedgerEngine, Settings, "Server"], Store]


def cluster_store(engine: LedgerEngine, settings: Settings, server: Server) -> Store:
    """The store that a node of a cluster has."""
    return ClusterStore(engine, policy=settings.grace.policy, now=server.now, rng=random.Random(server.rng.random()))


class Server:
    """A place for one node's process after the other, all under one name."""

    def __init__(self, world: World, number: int, settings: Settings) -> None:
        """Nothing runs yet."""
        self.world = world
        self.number = number
        self.name = f"n{number}"
        self.settings = settings
        self.rng = random.Random(f"{world.plan.seed} {self.name}")
        self.skew = self.rng.uniform(-world.plan.skew, world.plan.skew)
        self.authenticator = Authenticator.of(settings.auth)
        self.node: Node | None = None
        self.up = False
        """Whether a process listens."""
        self.cut = False
        self.paused = False
        self.calm_since = 0.0
        """When its last trouble (a pause, a cut, a start) was over."""
        self.admission: float | None = None
        """Seconds that the application takes to admit a connection; None: it varies."""
        self.processes = 0
        self.past: list[NodeLoop] = []
        self.loop = make_loop(world.clock)
        self.path = Path(world.house, self.loop, self.rng, 0.0)

    def now(self) -> float:
        """Unix seconds, as this machine has them."""
        return START + self.world.clock.now + self.skew

    def monotonic(self) -> float:
        """Seconds since the machine was started."""
        return 1000.0 + self.world.clock.now

    @property
    def in_trouble(self) -> bool:
        """Whether it cannot do its work now."""
        return not self.up or self.paused or self.cut

    # -- life -------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start a process."""
        world = self.world
        self.past.append(self.loop)
        if not self.loop.dead:
            self.loop.die()
        self.loop = make_loop(world.clock)
        self.path = Path(world.house, self.loop, self.rng, 0.0 if world.quiet else world.plan.loss)
        self.path.cut = self.cut
        self.processes += 1
        store = world.make_store(LedgerEngine(self.path), self.settings, self)
        self.node = node = Node(
            self.settings,
            store,
            authenticator=self.authenticator,
            admit=self._admit if world.plan.slow_admission else None,
            ask=self._ask,
            now=self.now,
            monotonic=self.monotonic,
            log=Diary(self),
        )
        node.keeper.gather = GATHER  # as on a clock that nobody turns by hand
        node.incarnation = Incarnation(f"{self.name}-{self.processes}-{self.rng.getrandbits(32):08x}")
        self.loop.deliver(self._begin, node)

    def crash(self) -> None:
        """The process is gone; the kernel resets its connections."""
        self._end()
        self.world.note("", "%s crashes", self.name)

    def drain(self, seconds: float, then: Callable[[], None]) -> None:
        """Empty the node, stop it, and go on."""
        if self.up:
            self.world.note("", "%s drains", self.name)
            self.loop.deliver(lambda: self.loop.create_task(self._drain(seconds, then)))
        else:
            then()

    def pause(self, paused: bool) -> None:
        """Stand still, or go on."""
        self.world.note("", "%s %s", self.name, "stands still" if paused else "goes on")
        self.paused = self.loop.stopped = paused
        self.calm_since = self.world.clock.now

    def sever(self, cut: bool) -> None:
        """Cut the way to the store, or mend it."""
        self.world.note("", "%s %s the store", self.name, "is cut off from" if cut else "reaches")
        self.cut = self.path.cut = cut
        self.calm_since = self.world.clock.now

    def starve(self) -> None:
        """The log readers' connections jam: they are told of nothing new, without an error."""
        self.world.note("", "the readers of %s jam", self.name)
        self.path.starving_since = self.world.clock.now

    def bury(self) -> None:
        """At the end: nothing may run on."""
        for loop in (*self.past, self.loop):
            asyncio._set_running_loop(loop)
            try:
                loop.bury()
            finally:
                asyncio._set_running_loop(None)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _begin(self, node: Node) -> None:
        self.loop.create_task(self._start(node))

    async def _start(self, node: Node) -> None:
        try:
            await node.start()
        except StoreError as error:  # the process exits, and its supervisor starts another one
            self.world.note("", "%s cannot start: %s", self.name, error)
            self.world.clock.after(1.0, self._again, node)
            return
        self.up = True
        self.calm_since = self.world.clock.now
        self.world.note("", "%s is up as %s", self.name, node.incarnation)

    def _again(self, node: Node) -> None:
        if self.node is node and not self.up:
            self.boot()

    def _end(self) -> None:
        self.up = False
        self.node = None
        self.calm_since = self.world.clock.now
        self.loop.die()
        self.world.process_ended(self)

    async def _drain(self, seconds: float, then: Callable[[], None]) -> None:
        node = self.node
        if node is None:
            return
        await node.drain(seconds)
        await node.stop()
        if self.node is node:
            self._end()
            self.world.clock.after(0.0, then)

    async def _ask(self, address: str) -> bool:
        """Whether another node is ready; over the network between the nodes, which always works."""
        await asyncio.sleep(0.002)
        other = next(s for s in self.world.servers if s.settings.cluster.address == address)
        if not other.up or other.node is None:
            return False
        if other.paused:
            await asyncio.sleep(1.0)
            return False
        return other.node.ready is None

    async def _admit(self, identity: Identity, request: UpgradeRequest) -> bool:
        """The application's own word: for one in four it takes some seconds, or as long as a script says."""
        if self.admission is not None:
            await asyncio.sleep(self.admission)
        elif self.rng.random() < 0.25:
            await asyncio.sleep(self.rng.uniform(0.1, 4.0))
        return True


class Diary(EventLog):
    """Notes what the node says of its connections."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.name)
        self._server = server

    def emit(self, event: str, **fields: Any) -> None:
        if event in ("lease_lost", "node_drained", "node_isolated", "isolation_over"):
            self._server.world.note("", "%s: %s %s", self._server.name, event, fields.get("reason", ""))

    def connection(self, event: str, c: Connection, active: int, **fields: Any) -> None:
        if event in ("connection_established", "active_socket_closing", "active_socket_closed"):
            self._server.world.note(
                c.user, "%s: %s %s %s active=%d", self._server.name, event, c.id, c.cause or "", active
            )

    def presence(self, event: Event, active: int) -> None:
        """What the store reports is noted where it happens."""
