"""What every row of the failure matrix has to hold, whatever the fault was.

Nobody who was there, or came back in time, was ever shown offline; who went for good was shown offline within the
row's bound, and not before the window had run out; every watcher's history is in order; and in the end all nodes show
the same, to their watchers and to those who ask.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from tests.acceptance.faults.asker import Asker
from tests.acceptance.faults.cluster import BUSY, EARLY, NODES, Cluster
from tests.acceptance.faults.people import Crowd, Departure, Entry, View, Watcher
from tests.acceptance.watching import wait_until

Essence = tuple[object, ...]


@dataclass(frozen=True)
class Verdict:
    """What was measured, in seconds.

    Attributes:
        slowest: from a departure to the OFFLINE at the watcher that heard of it last; 0 if nobody left.
        longest_gap: the longest that somebody who stayed had no connection.
    """

    slowest: float
    longest_gap: float


class Judge:
    """Of one row; made when it begins, with everybody there. A context manager: meanwhile every node is asked."""

    def __init__(self, cluster: Cluster, crowd: Crowd, record: Callable[[str, object], None]) -> None:
        """Prepare.

        Args:
            cluster: the nodes.
            crowd: everybody, gathered.
            record: where measured figures go.
        """
        self.cluster = cluster
        self.crowd = crowd
        self._record = record
        # those whom rows send away, and some whom they do not
        asked = [user for name in NODES for user in (*crowd.on(name)[:3], *crowd.on(name)[-2:])]
        self._asker = Asker(cluster, asked)

    def __enter__(self) -> Judge:
        self._asker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._asker.stop()

    def verdict(
        self,
        gone: Sequence[Departure] = (),
        *,
        bound: float = 0.0,
        since: float | None = None,
        early: float = EARLY,
        tolerance: float | None = None,
    ) -> Verdict:
        """Wait for all that has to come, and judge.

        Args:
            gone: who went for good.
            bound: seconds within which every watcher must have been shown that; patience with the machine is added.
            since: from when on the bound counts, Unix seconds: the end of the fault; None for each one's departure.
            early: by how much a window may have been shorter, in seconds.
            tolerance: how long somebody who stayed may have been without a connection at most, in seconds; a longer
                gap is the fault of the test, not of the nodes.
        """
        left = {departure.user for departure in gone}
        self.crowd.wait_connected()
        slowest = self.gone_by(gone, bound, since)
        gap = self.longest_gap(left)
        assert tolerance is None or gap < tolerance, (
            f"somebody was away for {gap:.1f} s; the row allows {tolerance:g} s"
        )
        self._none_of(self.false_offlines(left), "shown offline, though there or back in time")
        self._none_of(self.disorder(), "histories out of order")
        self._none_of([x for person in self.crowd.people.values() for x in person.surprises], "sent away for good")
        self.converge(left)
        self._none_of(self.false_offlines(left), "shown offline, though there or back in time")
        self._none_of(self.too_early(gone, early), "shown offline before the window had run out")
        self._none_of(self.false_answers(gone, early), "answered to be offline, though there or not yet")
        self._record("bound", f"{bound:g} s")
        self._record("slowest", f"{slowest:.1f} s")
        self._record("longest gap", f"{gap:.1f} s")
        return Verdict(slowest, gap)

    def gone_by(
        self, gone: Sequence[Departure], bound: float, since: float | None = None, on: Sequence[str] = ()
    ) -> float:
        """Wait until the watchers have been shown departures.

        Args:
            gone: who went.
            bound: as for :meth:`verdict`.
            since: as for :meth:`verdict`.
            on: the watchers of which nodes; all nodes that run, if it is empty.

        Returns:
            Seconds that the slowest took.
        """
        slowest, limit = 0.0, bound + BUSY
        nodes = list(on) or [name for name, _ in self.cluster.running()]
        for user, at, _ in gone:
            start = at if since is None else since
            for watcher in (self.crowd.watchers[node] for node in nodes):
                entry = wait_until(
                    lambda watcher=watcher, user=user: _shown_offline(watcher, user),  # type: ignore[misc]
                    max(0.01, start + limit - time.time()),
                    f"{user} shown offline on {watcher.node}; {watcher.views[user].held}; {self.cluster.complaints()}",
                )
                slowest = max(slowest, entry.at - start)
        assert slowest <= limit, f"OFFLINE came after {slowest:.1f} s; the bound is {limit:.1f} s"
        return slowest

    # -- the parts --------------------------------------------------------------------------------------------------

    def false_offlines(self, left: Iterable[str] = ()) -> list[str]:
        """Where anybody was shown offline who did not leave."""
        gone = set(left)
        return [
            f"{user} on {node}: {entry}"
            for node, user, view in self._views()
            if user not in gone
            for entry in view.entries
            if entry.status == "offline"
        ]

    def offlines(self) -> list[str]:
        """Where anybody at all was shown offline since the row began."""
        return [f"{u} on {node}: {e}" for node, u, view in self._views() for e in view.entries if e.status == "offline"]

    def false_answers(self, gone: Sequence[Departure], early: float) -> list[str]:
        """Where a node answered, at any moment, that somebody is offline who is not, or not yet."""
        right = {departure.user: departure.at + departure.earliest - early for departure in gone}
        return [
            f"{answer.user} on {answer.node} by {answer.how}: {answer.told}"
            for answer in list(self._asker.offline)
            if answer.at < right.get(answer.user, float("inf"))
        ]

    def too_early(self, gone: Sequence[Departure], early: float) -> list[str]:
        """Where somebody was shown offline before the window had run out."""
        return [
            f"{user} on {node} after {entry.at - at:.2f} s: {entry}"
            for user, at, earliest in gone
            for node, watcher in self.crowd.watchers.items()
            for entry in watcher.views[user].entries
            if entry.status == "offline" and entry.at < at + earliest - early
        ]

    def disorder(self) -> list[str]:
        """What is wrong with the histories.

        Over one connection and within one epoch versions grow, and ONLINE and OFFLINE alternate; an epoch that is over
        never returns. ``unknown`` is allowed, with version 0: a node without a store cannot tell.
        """
        return [f"{user} on {node}: {fault}" for node, user, view in self._views() for fault in _faults(view.entries)]

    def converge(self, left: Iterable[str] = (), timeout: float = 10.0) -> None:
        """Wait until all nodes show the same, to their watchers and to those who ask, and it is the truth."""
        gone = set(left)
        wait_until(lambda: not self.differences(gone), timeout, f"agreement; {self.differences(gone)[:5]}")

    def differences(self, gone: set[str]) -> list[str]:
        """Where somebody is told something else than the others, or not the truth."""
        names = self.crowd.names
        found: list[str] = []
        first: dict[str, Essence] = {}
        for node, _ in self.cluster.running():
            told, complete = self.cluster.ask(node, names)
            held = self.crowd.watchers[node]
            if not (complete and held.known):
                found.append(f"{node} does not know everybody, or its watcher is not back")
            for user in names:
                answer = _essence(told[user])
                wanted = "offline" if user in gone else "online"
                view = held.views[user].held
                if answer[0] != wanted:
                    found.append(f"{user} on {node} is {told[user]}; wanted is {wanted}")
                if first.setdefault(user, answer) != answer:
                    found.append(f"{user} on {node} is {answer}, elsewhere {first[user]}")
                if view is None or _essence(view.told) != answer:
                    found.append(f"{user} on {node}: the watcher holds {view}, the node answers {told[user]}")
        return found

    def longest_gap(self, left: Iterable[str] = ()) -> float:
        """The longest that somebody who stayed had no connection, in seconds."""
        gone = set(left)
        gaps = [0.0]
        for person in self.crowd.people.values():
            if person.name not in gone:
                starts = [*(span.start for span in person.spans[1:]), person.welcomed_at]
                gaps += [start - span.end for span, start in zip(person.spans, starts, strict=False)]
        return max(gaps)

    @staticmethod
    def _none_of(found: Sequence[str], what: str) -> None:
        assert not found, "\n".join([f"{len(found)} × {what}:", *found[:5]])

    def _views(self) -> Iterator[tuple[str, str, View]]:
        for node, watcher in self.crowd.watchers.items():
            for user, view in watcher.views.items():
                yield node, user, view


def _shown_offline(watcher: Watcher, user: str) -> Entry | None:
    view = watcher.views[user]
    offline = [entry for entry in list(view.entries) if entry.status == "offline"]
    return offline[0] if offline and view.held is not None and view.held.status == "offline" else None


def _essence(told: dict[str, object]) -> Essence:
    return told["status"], told["epoch"], told["version"], told["changedAt"]


def _faults(entries: Sequence[Entry]) -> list[str]:
    found: list[str] = []
    known = [entry for entry in entries if entry.status != "unknown"]
    epochs: list[str] = []
    before: Entry | None = None
    for entry in known:
        if before is not None and before.connection != entry.connection:
            before, epochs = None, []
        if entry.epoch in epochs[:-1]:
            found.append(f"an epoch that is over came back: {epochs} then {entry}")
        if not epochs or epochs[-1] != entry.epoch:
            epochs.append(entry.epoch)
        if before is not None and before.epoch == entry.epoch:
            grew = entry.version > before.version
            if entry.version < before.version or (entry.kind == "presence" and not grew):
                found.append(f"a version that does not grow: {before} then {entry}")
            elif not grew and entry.status != before.status:
                found.append(f"one version, two states: {before} and {entry}")
            elif grew and entry.kind == "presence" and entry.status == before.status:
                found.append(f"{entry.status} twice: {before} then {entry}")
        before = entry
    return found
