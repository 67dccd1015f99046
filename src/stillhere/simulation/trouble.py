"""Faults: what each of them does, and how it is over."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stillhere.core.words import Phase, UserId
from stillhere.simulation.house import Entry
from stillhere.simulation.inspector import Memory
from stillhere.simulation.network import Path
from stillhere.simulation.schedule import Fault, FaultKind

if TYPE_CHECKING:
    from stillhere.simulation.server import Server
    from stillhere.simulation.world import World


Image = tuple[bytes, list[Entry], Memory]
"""What a replica has of a partition, and what is known of it."""


class Trouble:
    """Makes faults happen."""

    def __init__(self, world: World) -> None:
        """Nothing is wrong yet."""
        self.world = world
        self._rng = random.Random(f"{world.plan.seed} trouble")
        self._outages = 0
        self._down_since = 0.0

    def schedule(self, faults: Sequence[Fault]) -> None:
        """Let these happen when their time comes."""
        clock = self.world.clock
        for fault in faults:
            if fault.kind is FaultKind.FAILOVER:
                clock.after(fault.at - fault.seconds, self._remember, fault)
            else:
                clock.after(fault.at, self.begin, fault)

    def begin(self, fault: Fault) -> None:
        """Make it happen now."""
        world, clock = self.world, self.world.clock
        server = world.servers[fault.node]
        match fault.kind:
            case FaultKind.CRASH:
                if server.up:
                    server.crash()
                    clock.after(fault.seconds, self._revive, server)
            case FaultKind.PAUSE:
                if server.up and not server.paused:
                    server.pause(True)
                    clock.after(fault.seconds, self._resume, server, server.loop)
            case FaultKind.CUT | FaultKind.LONG_CUT:
                if not server.cut:
                    server.sever(True)
                    clock.after(fault.seconds, server.sever, False)
            case FaultKind.STARVE:
                server.starve()
            case FaultKind.OUTAGE | FaultKind.HANG:
                self._down("refuse" if fault.kind is FaultKind.OUTAGE else "hang", fault.seconds)
            case FaultKind.SLOW:
                world.note("", "the store becomes slow")
                world.house.slow = self._rng.uniform(0.1, 1.2)
                clock.after(fault.seconds, self._quick)
            case FaultKind.RESTART:
                world.note("", "the store restarts")
                self._new_run(fault.down)
            case FaultKind.LOSS:
                world.note("", "the store restarts and has lost everything")
                self._wipe()
                self._new_run(fault.down)
            case FaultKind.FLUSH:
                world.note("", "everything in the store is deleted")
                self._wipe()
            case FaultKind.JUMP_AHEAD | FaultKind.JUMP_BACK:
                step = fault.seconds if fault.kind is FaultKind.JUMP_AHEAD else -fault.seconds
                world.note("", "the store's clock jumps by %.0f s", step)
                world.jumps.append((clock.now, step))
                world.house.offset += step
            case FaultKind.STORM:
                world.note("", "all connections of %s break", server.name)
                for wire in list(world.wires):
                    if wire.server is server and wire.alive:
                        wire.tab.drop() if wire.tab.wire is wire else wire.drop()
            case FaultKind.DEPLOY:
                self._deploy(0)
            case FaultKind.FLAKY:
                world.note("", "much of what %s asks of the store is lost", server.name)
                server.path.loss = 0.5
                clock.after(fault.seconds, self._steady, server, server.path)
            case FaultKind.EVICTION:
                self._evict(fault.node)
            case FaultKind.FAILOVER:
                pass

    def _steady(self, server: Server, path: Path) -> None:
        self.world.note("", "what %s asks of the store arrives again", server.name)
        path.loss = 0.0 if self.world.quiet else self.world.plan.loss

    def _evict(self, number: int) -> None:
        """The record of somebody who stays connected: of anybody else nothing would ever be told again."""
        world = self.world
        user = world.watchers[number].user
        desk = world.house.desks[world.partition_of(user)]
        record = desk.ledger.records.get(UserId(user))
        there = record is not None and record.phase is Phase.ONLINE and not record.holds
        if there and world.house.down is None:
            world.note("", "the record of %s is deleted", user)
            desk.evict(UserId(user))
            world.inspector.evicted(desk, user)

    # -- nodes ------------------------------------------------------------------------------------------------------

    def _revive(self, server: Server) -> None:
        if server.node is None:
            server.boot()

    def _resume(self, server: Server, loop: object) -> None:
        if server.loop is loop and server.paused:
            server.pause(False)

    def _deploy(self, number: int) -> None:
        servers = self.world.servers
        if number >= len(servers) or self.world.quiet:
            return
        server = servers[number]

        def replace() -> None:
            if server.node is None:
                server.boot()
            self.world.clock.after(1.5, self._deploy, number + 1)

        if server.paused or not server.up:
            self._deploy(number + 1)
        else:
            server.drain(3.0, replace)

    # -- the store --------------------------------------------------------------------------------------------------

    def _down(self, how: str, seconds: float) -> None:
        world = self.world
        world.note("", "the store is away (%s) for %.1f s", how, seconds)
        if world.house.down is None:
            self._down_since = world.clock.now
        world.house.down = how
        self._outages += 1
        world.clock.after(seconds, self._up, self._outages)

    def _up(self, outage: int) -> None:
        world = self.world
        if outage == self._outages:
            world.house.down = None
            now, limits = world.clock.now, world.house.clock_limits
            jumped = any(at >= self._down_since for at, _ in world.jumps)
            if now - self._down_since > limits.gap_limit and not jumped:
                world.outage_over_at = now
                world.inspector.made("I7")
            world.note("", "the store is back")

    def _quick(self) -> None:
        self.world.house.slow = 0.0
        self.world.note("", "the store is quick again")

    def _new_run(self, down: float) -> None:
        self.world.house.restart()
        self._down("refuse", down)

    def _wipe(self) -> None:
        world = self.world
        for desk in world.house.desks:
            desk.wipe()
            world.inspector.restore(desk, None)
            world.inspector.lost(desk.number)

    def _remember(self, fault: Fault) -> None:
        """What the replica has when the master dies."""
        inspector = self.world.inspector
        images = [(*desk.image(), inspector.image(desk)) for desk in self.world.house.desks]
        self.world.clock.after(
            fault.seconds, self._fail_over, images, self.world.clock.now, self.world.house.runs, fault
        )

    def _fail_over(self, images: list[Image], since: float, run: int, fault: Fault) -> None:
        world = self.world
        if world.house.runs == run:  # else it is an image of a store that is gone already
            world.note("", "failover: what was written since %.3f is lost", since)
            for desk, image in zip(world.house.desks, images, strict=True):
                if desk.ledger.state.run or not image[1]:
                    desk.restore(image[:2])
                    world.inspector.restore(desk, image[2])
                    world.inspector.lost(desk.number)
            # a clock that does not know of a jump notices it again
            world.jumps += [(world.clock.now, step) for at, step in world.jumps if at >= since]
        self._new_run(fault.down)
