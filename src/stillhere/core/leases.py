"""The nodes' side of the ledger: epochs, leases, channels and the fence, the recovery, and notices between nodes.

Pure like the rest; :class:`stillhere.core.ledger.Ledger` adds the records.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from stillhere.core.clock import ClockLimits, StoreClock
from stillhere.core.events import Notice, NoticeKind
from stillhere.core.words import Cause, ConnectionId, Incarnation, UserId


class Answer(StrEnum):
    """How the ledger answers an operation."""

    OK = "OK"
    FENCED = "FENCED"
    """The incarnation has no lease, or a newer connection of it has spoken: it must come as a new incarnation."""
    NO_EPOCH = "NO_EPOCH"
    """The store is empty; say ``hello`` first."""
    HOLD = "HOLD"
    """Nothing expires at the moment."""


class Limits(msgspec.Struct, frozen=True):
    """How much is remembered, and for how long."""

    false_offline_horizon: float = 30.0
    """Seconds after an OFFLINE within which a return makes it a false one."""
    remember: float = 7 * 86400.0
    """Seconds for which a user who is offline is known."""
    known_users: int = 1_000_000
    """How many such users at most."""
    late_news: float = 120.0
    """Seconds on the store clock for which the news of an end may be late: so long a goodbye is remembered, after which
    such an end opens no window. At least the longest window: what is told later than that has none left."""
    watchers_outlive: bool = False
    """Nodes and their watchers outlive the store's process: after a loss they may know what the store forgot."""
    clock: ClockLimits = ClockLimits()


class LedgerState(msgspec.Struct, array_like=True):
    """All of the ledger that is not a record; small, and written with every change."""

    epoch: int = 0
    seq: int = 0
    run: str = ""
    clock: StoreClock = msgspec.field(default_factory=StoreClock)
    leases: dict[Incarnation, float] = {}
    channels: dict[Incarnation, int] = {}
    heard: dict[Incarnation, float] = {}
    """When an incarnation last wrote, Unix time."""
    dead: dict[Incarnation, Cause] = {}
    """Incarnations to be reaped, and the cause of their connections' end."""
    processes: dict[Incarnation, str] = {}
    """Which process an incarnation belongs to: one that was fenced comes back as a new incarnation."""
    about: dict[Incarnation, bytes] = {}
    """What a node says of itself, for the others."""
    awaited: set[str] = set()
    """Processes that have to tell again what they carry before the recovery is over."""
    asserted: set[str] = set()
    """Those that have, in this epoch."""
    wiped: bool = False
    """The epoch began with an empty store: windows are lost too, so the recovery lasts its whole time."""
    born: int = 0
    """The epoch in which the data began: another one means that all was lost, and that the clock began anew."""


class Leases:
    """Who may write, and since when."""

    def __init__(self, limits: Limits, state: LedgerState) -> None:
        """Start from a state."""
        self.limits = limits
        self.state = state
        self._notices: list[Notice] = []

    def take_notices(self) -> list[Notice]:
        """Drain what the nodes have to hear of each other; numbered with the transitions."""
        notices, self._notices = self._notices, []
        return notices

    def hello(self, now: float, run: str, known_epoch: int = 0, nonce: int = 0, processes: Iterable[str] = ()) -> None:
        """A node's connection to the store begins.

        A new run of the store begins a new epoch and a recovery: nothing expires before the nodes have told again what
        they carry. It ends early when all of them have, unless the store came back empty: then the windows are gone
        too, and those who are in one need the time. Of an empty store that a first node finds nobody knows whether it
        ever had anything: a node that does says so within its beat, and that is how long the recovery lasts until then.

        Args:
            now: the store's own time, Unix seconds.
            run: identifies the store's process; a new one starts a new epoch, since writes may have been lost.
            known_epoch: the highest epoch the node has seen.
            nonce: 10 random bits.
            processes: the nodes' processes that the caller knows of, its own included.
        """
        state = self.state
        self._tick(now)
        if state.run != run:
            state.run = run
            new = state.epoch == 0 and not known_epoch
            # a restart during the recovery from a loss brings back no window
            state.wiped = state.epoch == 0 or (state.wiped and state.clock.recovering)
            state.awaited = {state.processes.get(inc, inc) for inc in state.leases}
            state.asserted = set()
            state.epoch = (max(state.epoch, known_epoch, round(now * 1000) * 1024) // 1024 + 1) * 1024 + nonce
            state.born = state.born or state.epoch
            limits = self.limits.clock
            hold = min(limits.gap_hold, limits.recovery_hold) if new else limits.recovery_hold
            state.clock.recover_until = state.clock.value + hold
        elif state.wiped and state.clock.recovering and known_epoch not in {0, state.epoch}:
            state.clock.recover_until = state.clock.value + self.limits.clock.recovery_hold
        state.awaited.update(process for process in processes if process not in state.asserted)

    def speak(self, incarnation: Incarnation, channel: int) -> None:
        """A new connection of an incarnation: what comes over its older ones is refused from now on."""
        channels = self.state.channels
        if incarnation in self.state.leases:  # of any other, nothing would ever remove it
            channels[incarnation] = max(channel, channels.get(incarnation, 0))

    def asserted(self, now: float, incarnation: Incarnation, channel: int) -> Answer:
        """A node has told all that it carries since the epoch began."""
        answer = self._admit(now, incarnation, channel)
        if answer is Answer.OK:
            state = self.state
            process = state.processes.get(incarnation, incarnation)
            state.asserted.add(process)
            state.awaited.discard(process)
            if not state.awaited and not state.wiped:
                state.clock.recover_until = min(state.clock.recover_until, state.clock.value)
        return answer

    def notify(
        self, now: float, kind: NoticeKind, target: str = "", user: str = "", cause: str = "", reason: str = ""
    ) -> Answer:
        """Tell the nodes something; see :class:`Notice`."""
        if not self.state.run:
            return Answer.NO_EPOCH
        self._tick(now)
        self._notice(Notice(kind, self._next_version(), now, target, UserId(user), ConnectionId(""), cause, reason))
        return Answer.OK

    def join(
        self, now: float, incarnation: Incarnation, channel: int, lease: float, process: str = "", about: bytes = b""
    ) -> Answer:
        """Give an incarnation its lease, in seconds; with a process, tell the other nodes.

        Args:
            process: the same for all incarnations of one process.
            about: what the node says of itself.
        """
        if not self.state.run:
            return Answer.NO_EPOCH
        self._tick(now)
        if incarnation in self.state.dead:
            return Answer.FENCED
        self.state.leases[incarnation] = self.state.clock.value + lease
        self.state.channels[incarnation] = max(channel, self.state.channels.get(incarnation, 0))
        self.state.heard[incarnation] = now
        if process:
            self.state.processes[incarnation] = process
            self.state.about[incarnation] = about
            if self.state.clock.recovering and process not in self.state.asserted:
                self.state.awaited.add(process)
            self._notice(Notice(NoticeKind.JOINED, self._next_version(), now, process))
        return Answer.OK

    def beat(
        self, now: float, incarnation: Incarnation, channel: int, lease: float, about: bytes | None = None
    ) -> Answer:
        """Renew the lease; ``about`` is what the node says of itself now."""
        answer = self._admit(now, incarnation, channel)
        if answer is Answer.OK:
            self.state.leases[incarnation] = self.state.clock.value + lease
            if about is not None:
                self.state.about[incarnation] = about
        return answer

    def retire(self, now: float, incarnation: Incarnation, cause: Cause = Cause.NODE_LOST) -> None:
        """Declare an incarnation dead; :meth:`reap` ends its connections."""
        self._tick(now)
        self.state.leases.pop(incarnation, None)
        self.state.channels.pop(incarnation, None)
        self.state.about.pop(incarnation, None)
        self.state.dead[incarnation] = cause

    def _tick(self, now: float) -> float:
        return self.state.clock.tick(now, self.limits.clock)

    def _admit(self, now: float, incarnation: Incarnation, channel: int) -> Answer:
        """R2, the fence: zombies and requests of an older connection change nothing."""
        state = self.state
        if not state.run:
            return Answer.NO_EPOCH
        self._tick(now)
        if incarnation not in state.leases or state.channels.get(incarnation, 0) > channel:
            return Answer.FENCED
        state.heard[incarnation] = now
        return Answer.OK

    def _notice(self, notice: Notice) -> None:
        self._notices.append(notice)

    def _next_version(self) -> int:
        self.state.seq += 1
        return self.state.seq
