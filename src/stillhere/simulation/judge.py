"""Who must not be offline: what the store emits and what watchers are shown, held against who is connected."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING

from stillhere.simulation.report import Violation
from stillhere.simulation.touch import BACK, Touch
from stillhere.wire.messages import UserPresence

if TYPE_CHECKING:
    from stillhere.simulation.client import Wire
    from stillhere.simulation.view import View
    from stillhere.simulation.world import World

ON_ITS_WAY = 1.0
"""Seconds that news may take from the store to a watcher, on a node that reads the log."""

LATE = 6.0
"""The same, where the log's reader jams: it is given up after three, and the next one starts anew."""

SLOW_READER = 8.0
"""By how many seconds a watcher may be behind that reads every few seconds."""

KICKED = 10.0
"""Seconds after which a connection that was open at a kick is gone, on whichever node."""


class Judge:
    """See the module; :class:`~stillhere.simulation.inspector.Inspector` adds what the store does."""

    def __init__(self, world: World) -> None:
        """Know nothing yet."""
        self.world = world
        self.touch = Touch(world)
        self.emitted_at: dict[tuple[int, int, int], float] = {}
        self.lost_at: dict[int, float] = {}
        """When a partition last lost something."""
        self._lost_behind: dict[int, frozenset[int]] = {}
        """Nodes that were behind then."""
        self.evicted_at: dict[str, float] = {}
        self.kicked_at: dict[str, float] = {}
        self.kicks: list[tuple[float, float, str]] = []
        """Kicks: when every node had been told, when it began, and whom."""
        self._unknown: set[tuple[str, str]] = set()
        """Of whom a watcher was told last that nobody knows."""
        self._shown: dict[tuple[str, str], tuple[float, float]] = {}
        """When a watcher was shown a user OFFLINE, and when that was news; absent while it is shown anything else."""

    def broken(self, rule: str, what: str, user: str = "") -> None:
        """A promise was broken."""
        report = self.world.report
        if len(report.violations) < 50:
            report.violations.append(Violation(round(self.world.clock.now, 3), rule, what, user))
        self.world.on_violation()

    def made(self, rule: str) -> None:
        """A check was made in full."""
        checks = self.world.report.checks
        checks[rule] = checks.get(rule, 0) + 1

    def excused(self, rule: str, why: str) -> None:
        """A check was not made, or not in full; for a reason that is documented."""
        excuses = self.world.report.excuses
        key = f"{rule}: {why}"
        excuses[key] = excuses.get(key, 0) + 1

    def connected(self, user: str) -> Iterator[Wire]:
        """Connections that both sides have, and of which the store has said that it knows them."""
        for wire in self.world.wires_of(user):
            if wire.alive and wire.counted and wire.welcomed_at and wire.tab.wire is wire:
                yield wire

    # -- what the store emits ---------------------------------------------------------------------------------------

    def judge_offline(self, rule: str, wire: Wire, what: str) -> None:
        """Somebody with this connection is said to be offline."""
        user = wire.tab.user
        lost_at = self.lost_at.get(self.world.partition_of(user), -1.0)
        kicked_at = self.kicked_at.get(user, -1.0)
        soon = self.world.clock.now - kicked_at < ON_ITS_WAY
        if wire.opened_at <= kicked_at and (soon or self.touch.lately(wire.server)):
            self.excused(rule, "kicked just now, and its node has not heard of it yet")
            return
        evicted_at = self.evicted_at.get(user, -1e9)
        if self.world.clock.now - evicted_at < self.world.settings.cluster.beat + BACK:
            self.excused(rule, "its record was deleted, and the next beat has to notice it")
            return
        lost_at = max(lost_at, evicted_at)
        why = self.touch.excuse(wire.server, forgotten=lost_at > wire.welcomed_at)
        if why:
            self.excused(rule, why)
        else:
            self.broken(rule, what, user)

    def judge_outage(self, user: str) -> None:
        """I7: after an outage nobody is shown offline before everybody could tell who came back."""
        world = self.world
        now, hold = world.clock.now, world.settings.cluster.beat + 1.0
        if world.outage_over_at <= now < world.outage_over_at + hold:
            self.broken("I7", f"OFFLINE {now - world.outage_over_at:.1f} s after an outage", user)

    # -- what watchers are shown ------------------------------------------------------------------------------------

    def shown_to(self, view: View, wire: Wire, told: UserPresence) -> None:
        """A watcher was shown a user over a connection."""
        world, user = self.world, told.user
        now = world.clock.now
        key = world.partition_of(user), int(told.epoch), told.version
        emitted = self.emitted_at.get(key)
        if told.status == "unknown":
            self._unknown.add((view.name, user))
            return
        unknown = (view.name, user) in self._unknown
        self._unknown.discard((view.name, user))
        if told.status != "offline":
            gone = self._shown.pop((view.name, user), None)
            if gone is not None and emitted is None:
                self.made("9")
                shown_at, gone_at = gone
                if wire.opened_at > shown_at:
                    self.excused("9", "the watcher came anew, to a node that may not know what it was shown")
                elif world.last_alive(user) < gone_at - 0.1:
                    self.broken("9", f"{view.name} was shown {told.status} again, without a connection", user)
            return
        news = (view.name, user) not in self._shown
        self._shown.setdefault((view.name, user), (now, now if emitted is None else emitted))
        since = now if emitted is None else max(emitted, wire.welcomed_at)
        if news and now - since > LATE:
            if unknown:
                self.excused("I3", "the answer was that nobody knows, until then")
            elif self.touch.settling:
                self.excused("I3", "the store is recovering")
            elif self._behind(wire):
                self.excused("I3", "the watcher, or its node, is behind")
            else:
                self.broken("I3", f"{view.name} was told after {now - since:.1f} s", user)
        self.made("I1w")
        if user in world.hiding:
            self.excused("I1w", "somebody who makes himself invisible now and then")
            return
        for other in self.connected(user):
            if emitted is not None and emitted < other.welcomed_at:
                continue  # in order: it came back since, and that is news as well
            if now - other.welcomed_at < ON_ITS_WAY + self._behind(wire):
                self.excused("I1w", "it came back just before, as far as the watcher's node can know")
                continue
            self.judge_offline("I1w", other, f"{view.name} was shown OFFLINE although {other.tab.id} is connected")

    def _behind(self, wire: Wire) -> float:
        """By how many seconds what a watcher is shown may be old: it reads slowly, or its node was out of touch."""
        return max(self.touch.behind(wire.server), 0.0 if wire.capacity is None else SLOW_READER)

    # -- kicks ------------------------------------------------------------------------------------------------------

    def look_at_kicks(self) -> None:
        """K: who was open when every node was told of a kick is not open for long."""
        now = self.world.clock.now
        due = [kick for kick in self.kicks if kick[0] <= now - KICKED]
        self.kicks = [kick for kick in self.kicks if kick[0] > now - KICKED]
        for told_at, at, user in due:
            self.made("K")
            for wire in self.connected(user):
                if wire.welcomed_at >= at - 0.1:
                    continue
                if self.touch.lately(wire.server):
                    self.excused("K", self.touch.lately(wire.server))
                    self.kicks.append((told_at, at, user))
                    break
                if self.world.house.down is not None:
                    self.excused("K", "the store is away")
                    self.kicks.append((now - KICKED + BACK, at, user))
                    break
                if self._is_lost(user, wire, told_at):
                    self.excused("K", "the store lost its data, and the kick, before the node heard of it")
                    continue
                self.broken("K", f"{wire.tab.id} is open on {wire.server.name} {KICKED:.0f} s after a kick", user)

    def lost(self, number: int) -> None:
        """A partition has lost data at this moment."""
        self.lost_at[number] = self.world.clock.now
        self._lost_behind[number] = frozenset(
            server.number for server in self.world.servers if self.touch.lately(server) or self.touch.behind(server)
        )

    def _is_lost(self, user: str, wire: Wire, told_at: float) -> bool:
        """Whether a node could not hear of a kick in time: the store lost it at once, or while the node was behind."""
        partition = self.world.partition_of(user)
        lost_at = self.lost_at.get(partition, -inf)
        if told_at <= lost_at < told_at + ON_ITS_WAY:
            return True
        return lost_at >= told_at and wire.server.number in self._lost_behind.get(partition, ())
