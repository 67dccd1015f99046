"""Who can speak with the store, as far as the world lets them: the only excuse for losing a connection.

An excuse must not come from what is on trial: a node that has no lease because it forgot to renew it is no more excused
than one that does nothing at all. So the excuses are reckoned from the faults alone: which node stood still or was cut
off, and for how many seconds of the store's own time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillhere.core.words import Cause
from stillhere.simulation.schedule import NODES

if TYPE_CHECKING:
    from stillhere.simulation.server import Server
    from stillhere.simulation.world import World

BACK = 6.0
"""Seconds within which a node that reaches the store again has told it everything: a request that hangs takes two until
it is given up, the new line one, and the incarnation, the puts and a lost answer the rest."""

UNHEARD = 2.5
"""Where requests are lost: a node without an answer for so long, in seconds, is out of touch for the moment."""

CLEAR = 12.0
"""Seconds after any trouble, the store's own included, after which a node has heard all that it missed: it is back, and
a log reader that jams is given up after three seconds."""

LOSSY = 10.0
"""By how many seconds a node may be behind whose requests are lost now and then."""

LOOK = 0.5
"""Seconds between two looks."""


class Touch:
    """See the module."""

    def __init__(self, world: World) -> None:
        """Everybody is in touch."""
        self.world = world
        self._silent = [0.0] * NODES
        self._sound = [BACK] * NODES
        self._why = [""] * NODES
        self._alone = [False] * NODES
        self._clear = [CLEAR] * NODES
        self._since = [0.0] * NODES
        self._lossy_at = [-CLEAR] * NODES
        self._lossy = [False] * NODES
        self._still = [0.0] * NODES
        self._went_on = [-1e9] * NODES
        self._run = (1, -1.0)
        self._running = 0.0
        cluster, policy = world.settings.cluster, world.policy
        self.lost_after = cluster.lease - 2 * cluster.beat - 1.0 + policy.window(Cause.NODE_LOST)
        """Seconds of silence after which a node's users may be offline: its lease, which was renewed a beat and one
        failed renewal before, and the window."""
        self.beat = cluster.beat
        self.recovery = cluster.lease + cluster.beat
        self.forgotten_after = cluster.lease + cluster.beat - BACK
        """The same for a connection that the store has forgotten: a recovery, less the way back."""

    def begin(self) -> None:
        """Look from now on."""
        world = self.world
        up = world.house.down is None
        run = world.house.runs, max(world.inspector.lost_at.values(), default=-1.0)
        if run != self._run:
            self._run, self._running = run, 0.0
        self._running += LOOK if up else 0.0
        sound = [not self.hindered(server) for server in world.servers]
        for server in world.servers:
            number = server.number
            quick = up and sound[number] and not world.house.slow
            if server.path.loss:
                self._lossy_at[number] = world.clock.now
            if not quick and self._clear[number] >= CLEAR:
                self._since[number] = world.clock.now - LOOK
            self._clear[number] = self._clear[number] + LOOK if quick else 0.0
            if sound[number]:
                self._sound[number] += LOOK if up else 0.0
                if self._sound[number] >= BACK:
                    self._silent[number], self._why[number], self._alone[number] = 0.0, "", False
                    self._still[number], self._lossy[number] = 0.0, False
                continue
            self._sound[number] = 0.0
            self._why[number] = self.hindered(server)
            self._lossy[number] = self._lossy[number] or world.clock.now - self._lossy_at[number] < self.beat
            if server.paused:
                self._went_on[number] = world.clock.now
            if up:  # while nobody reaches the store, nobody's time runs
                self._silent[number] += LOOK
                self._still[number] += LOOK if server.paused else 0.0
                self._alone[number] = self._alone[number] or not any(sound)
        world.clock.after(LOOK, self.begin)

    def hindered(self, server: Server) -> str:
        """What keeps a node from the store at this moment; empty for nothing."""
        if not server.up:
            return "down"
        if server.paused:
            return "stood still"
        if server.cut:
            return "cut off"
        if server.path.loss and self.world.clock.now - server.path.heard_at > UNHEARD:
            return "requests lost"
        return ""

    def lately(self, server: Server) -> str:
        """What kept a node from the store at this moment or up to :data:`BACK` seconds ago; empty for nothing."""
        return self.hindered(server) or self._why[server.number]

    def behind(self, server: Server) -> float:
        """By how many seconds what a node knows of the store may be old; 0 where nothing is wrong, nor was lately."""
        if self._clear[server.number] < CLEAR:
            return self.world.clock.now - self._since[server.number]
        return LOSSY if self.world.clock.now - self._lossy_at[server.number] < CLEAR else 0.0

    @property
    def settling(self) -> bool:
        """Whether the store, as another run or after a loss, may still wait for nodes to tell it what they carry."""
        return self._running < 2 * self.recovery + BACK  # a node that knows of an older epoch begins it anew

    def silent(self, server: Server) -> float:
        """For how many seconds a node could not speak with a store that others could reach; until it is back."""
        return self._silent[server.number]

    def excuse(self, server: Server, *, forgotten: bool) -> str:
        """Why the users of a node may be offline although they are connected; empty if they may not.

        Args:
            server: the node.
            forgotten: the store lost what it knew of the connection.
        """
        after = self.forgotten_after if forgotten else self.lost_after
        number = server.number
        if (self.world.plan.loss or self._lossy[number]) and not forgotten:
            after -= self.beat  # one more renewal that failed
        if self.silent(server) < after:
            return ""
        why = self._why[number]
        if why == "cut off" and not self._alone[number]:
            # it has to move its clients to one that is not; if it stood still all that time, it has to notice first
            noticing = self.world.clock.now - self._went_on[number] < BACK
            return "stood still, and found itself cut off" if noticing and self._still[number] > after - BACK else ""
        return why
