"""Why a user was shown as they were at an instant: a pure function of the timeline.

The answer names the rule that decided, the entries that show it, a sentence for people, and what could be done about
it. What the timeline does not tell is said to be unknown, and never guessed: it may have been cut, the instant may lie
before its beginning or in the future, and the store may have been in trouble at the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from stillhere.core.events import Change, Contributed, Entry, Returned, Transition
from stillhere.core.moment import INVISIBLE, Carried, End, moment
from stillhere.core.phrases import DEPARTURES, instant, length, manner, node_of
from stillhere.core.quality import enough
from stillhere.core.record import Shown
from stillhere.core.words import FINAL_CAUSES, Status, UserId

_LATE = 1.0
"""Seconds by which an OFFLINE may come after its deadline without anything being said of it."""

_NOW = 1.0
"""Seconds that count as this moment."""

_TOLD = 3
"""Connections that a sentence tells of."""


class Rule(StrEnum):
    """What decided."""

    CONNECTED = "connected"
    """A connection is active: online, whatever else."""
    IN_WINDOW = "in_window"
    """None is active, and a grace window runs: shown as before."""
    UPGRADE_IN_FLIGHT = "upgrade_in_flight"
    """None is active and no window is left, but an upgrade is under way: OFFLINE waits for its outcome."""
    WINDOW_RAN_OUT = "window_ran_out"
    NO_WINDOW = "no_window"
    """The last connection ended with a cause whose window is 0."""
    DEPARTED = "departed"
    """Bye, kick or revocation."""
    INVISIBLE = "invisible"
    """A connection asked for it."""
    NEVER_SHOWN = "never_shown"
    UNRECORDED = "unrecorded"
    """The timeline does not tell."""
    FUTURE = "future"
    STORE_UNREACHABLE = "store_unreachable"


class Explanation(msgspec.Struct, frozen=True):
    """Why."""

    user: UserId
    at: float
    status: Status
    """As watchers were shown it; ``unknown`` where nobody can tell."""
    rule: Rule
    sentence: str
    since: float | None = None
    """Since when that status was shown, Unix time."""
    advice: str | None = None
    evidence: tuple[int, ...] = ()
    """Indexes of the entries that show it, oldest first."""


def explain(user: UserId, entries: Sequence[Entry], at: float, now: float, shown: Shown | None = None) -> Explanation:
    """Explain.

    Args:
        user: whom it is about.
        entries: the timeline, oldest first.
        at: the instant, Unix time in seconds.
        now: this moment, Unix time in seconds.
        shown: what is shown of the user now, if that is known: a timeline may not reach back to the last change.
    """
    if at > now:
        ahead = length(at - now)
        sentence = (
            f"{instant(at)} is {ahead} ahead of the server's clock: nobody can tell how {user} will be shown then."
        )
        return Explanation(user, at, Status.UNKNOWN, Rule.FUTURE, sentence)
    return _Story(user, entries, at, now, shown).tell()


class _Story:
    """One explanation in the making."""

    def __init__(self, user: UserId, entries: Sequence[Entry], at: float, now: float, shown: Shown | None) -> None:
        self.user = user
        self.entries = entries
        self.at = at
        self.now = now
        self.known = shown
        self.moment = moment(entries, at)
        self.evidence: set[int] = set()
        self.advice: str | None = None
        self.last = self._transition(self.moment.shown)
        self.shown = None if self.last is None else self.last.shown
        self.since = self.moment.since
        newer = shown is not None and (self.last is None or self.last.version < shown.version)
        if shown is not None and newer and shown.version and shown.changed_at <= at:
            # the timeline does not reach so far
            self.last, self.shown, self.since = None, shown, shown.changed_at

    def tell(self) -> Explanation:
        if self.shown is None:
            return self._before_any()
        if self.shown.status is Status.OFFLINE:
            return self._offline()
        return self._present(self.shown)

    # -- before anything was shown ------------------------------------------------------------------------------------

    def _before_any(self) -> Explanation:
        """No transition up to the instant."""
        if not self.entries:
            return self._nothing()
        begins = self.entries[0].at
        if self.at < begins:
            begin = self._time(begins)
            return self._cut(
                f"The timeline of {self.user} begins at {begin}; of {self._time(self.at)} it does not tell."
            )
        first = next((e for e in self.entries if isinstance(e, Transition) and e.shown is not None), None)
        if first is None:
            return self._never(begins)
        if first.change is Change.ONLINE:
            self._point(self.entries.index(first))
            text = f"{self.user} was shown offline at {self._time(self.at)}, and came online at {self._time(first.at)}."
            return self._say(Status.OFFLINE, Rule.NEVER_SHOWN, text)
        return self._cut(
            f"The timeline of {self.user} no longer reaches back to what was shown at {self._time(self.at)}: online, "
            f"away or busy, until {self._time(first.at)}."
        )

    def _nothing(self) -> Explanation:
        if self.known is None or not self.known.version:
            text = f"Nothing is known of {self.user}: never seen, or forgotten since."
            return self._say(Status.OFFLINE, Rule.NEVER_SHOWN, text)
        since = self._time(self.known.changed_at)
        return self._cut(f"Nothing is recorded of {self.user} that is so old: what is shown now dates from {since}.")

    def _never(self, begins: float) -> Explanation:
        """Entries, and none of them a transition of the user's own."""
        head = self.entries[0]
        hiding = [c for c in self.moment.active if c.connection.availability == INVISIBLE]
        if hiding:
            return self._hidden(hiding)
        if isinstance(head, Contributed) and head.fresh:
            text = f"{self.user} was not shown online since {self._time(begins)}, when the timeline begins."
            return self._say(Status.OFFLINE, Rule.NEVER_SHOWN, text)
        return self._cut(f"The timeline of {self.user} no longer reaches back to the last change that was shown.")

    def _cut(self, text: str) -> Explanation:
        self.advice = "timeline.entries and timeline.days say how far back timelines reach."
        return self._say(Status.UNKNOWN, Rule.UNRECORDED, text)

    # -- present ------------------------------------------------------------------------------------------------------

    def _present(self, shown: Shown) -> Explanation:
        head = self._head(shown.status.value)
        self._point(self.moment.shown if self.last else None, self.moment.came)
        active = self.moment.active
        if active:
            told = "; ".join(self._connection(c) for c in active[:_TOLD])
            text = f"{head}: {_count(len(active))} active: {told}{'; and others' if len(active) > _TOLD else ''}."
            if shown.status is not Status.ONLINE:
                text += f" The most available of the user's connections says {shown.status.value}."
            return self._say(shown.status, Rule.CONNECTED, text)
        last, end = self._last_end(), self._longest()
        connecting = self.moment.connecting
        if connecting and (end is None or end.deadline <= self.at):
            self._point(*(c.index for c in connecting))
            text = f"{head}: no window is left, but an upgrade is in flight, and OFFLINE waits for its outcome."
            return self._say(shown.status, Rule.UPGRADE_IN_FLIGHT, text)
        if last is None:
            text = f"{head}. The timeline no longer tells of a connection."
            return self._say(shown.status, Rule.UNRECORDED, text)
        text = f"{head}, though no connection is active: {self._ended(last)}; {self._running(last, end)}."
        return self._say(shown.status, Rule.IN_WINDOW, text)

    def _running(self, last: End, end: End | None) -> str:
        """Of a window that has not ended."""
        self._point(self.moment.grace, last.index)
        if end is None:
            return "nobody goes while the store is coming back from trouble"
        self._point(end.index)
        cause = end.ending.cause.value
        self.advice = f"grace.{cause} sets how long that window is."
        which = "its window" if end is last else f"the longest window, that of tab {end.ending.tab} for {cause},"
        runs = "runs" if end.deadline > self.at else "has run"
        late = "" if end.deadline > self.at else ", but nothing expires while the store is in trouble"
        return f"{which} of {length(end.ending.window)} {runs} until {self._time(end.deadline)}{late}"

    # -- offline ------------------------------------------------------------------------------------------------------

    def _offline(self) -> Explanation:
        head = self._head("offline")
        if self.last is None:
            return self._say(Status.OFFLINE, Rule.UNRECORDED, f"{head}. The timeline no longer tells why.")
        self._point(self.moment.shown)
        if self.last.cause == INVISIBLE:
            return self._hidden(self.moment.active)
        departed = self.last.cause in FINAL_CAUSES
        end = self._deciding(self.last)
        if end is None:
            text = f"{head}, by {self.last.cause}. The timeline no longer tells of the connection's end."
            return self._say(Status.OFFLINE, Rule.DEPARTED if departed else Rule.WINDOW_RAN_OUT, text + self._then())
        self._point(end.index, self.moment.over)
        if departed:
            return self._say(Status.OFFLINE, Rule.DEPARTED, f"{head}: {self._departure(end)}.{self._then()}")
        last = self._last_end() or end
        self._point(last.index)
        text = f"{head}: {self._ended(last)}; {self._ran_out(end, last)}.{self._doubt(end, self.last.at)}{self._then()}"
        return self._say(Status.OFFLINE, Rule.WINDOW_RAN_OUT if end.ending.window > 0 else Rule.NO_WINDOW, text)

    def _hidden(self, active: Sequence[Carried]) -> Explanation:
        self._point(*(c.index for c in active))
        there = f", while {_count(len(active))} active" if active else ""
        text = f"{self._head('shown offline')}: {self.user} chose to be invisible{there}."
        return self._say(Status.OFFLINE, Rule.INVISIBLE, text)

    def _departure(self, end: End) -> str:
        did = DEPARTURES[end.ending.cause]
        reason = f" (“{end.ending.reason}”)" if end.ending.reason else ""
        if not end.ending.connection:
            return f"the user {did} at {self._time(end.at)}{reason}, which ends every window"
        return f"the last connection ({_place(end)}) {did} at {self._time(end.at)}{reason}, which leaves no window"

    def _ran_out(self, end: End, last: End) -> str:
        window = length(end.ending.window)
        if end.ending.window <= 0:
            return f"grace.{end.ending.cause.value} is 0, so there was no window"
        if end is last:
            return f"its window of {window} ran out"
        ended = f"which had ended at {self._time(end.at)} {manner(end.ending)}"
        return f"the longest window, of {window} for tab {end.ending.tab}, {ended}, ran out"

    def _doubt(self, end: End, at: float) -> str:
        """What is not certain about an OFFLINE."""
        if end.lost:
            return " The node was heard then for the last time: when the connection really ended nobody knows."
        if at - end.deadline > _LATE:
            late = length(at - end.deadline)
            return f" That was {late} later than planned: nothing expires while the store is in trouble."
        return ""

    def _then(self) -> str:
        """What came of an OFFLINE, as far as it is recorded by now."""
        assert self.moment.shown is not None, "an OFFLINE was shown"
        later = range(self.moment.shown + 1, len(self.entries))
        came = next((n for n in later if (t := self._transition(n)) is not None and t.change is Change.ONLINE), None)
        if came is None:
            return ""
        self._point(came)
        for n in range(self.moment.shown + 1, came):
            returned = self.entries[n]
            if isinstance(returned, Returned) and returned.false_offline:
                self._point(n)
                return self._false(returned)
        return f" {self.user} came online again at {self._time(self.entries[came].at)}."

    def _false(self, returned: Returned) -> str:
        window, cause = enough(returned.gap), returned.cause.value
        self.advice = (
            f"grace.{cause} = {round(window * 1000)} (ms) would have covered it; "
            f"`stillhere replay … --grace {cause}={round(window * 1000)}` tells what else that changes."
        )
        return (
            f" {self.user} came back {length(returned.gap)} after the close: a false offline; "
            f"a window of {length(window)} for {cause} would have covered it."
        )

    # -- pieces -------------------------------------------------------------------------------------------------------

    def _say(self, status: Status, rule: Rule, text: str) -> Explanation:
        held = self.moment.held_back
        if held is not None:
            self._point(held)
            text += (
                f" At {self._time(self.entries[held].at)} the store was coming back from trouble, or its clock had "
                "jumped: nothing expired then, and what had happened meanwhile may have been told late."
            )
        since = self.since if self.shown is not None else None
        return Explanation(self.user, self.at, status, rule, text, since, self.advice, tuple(sorted(self.evidence)))

    def _head(self, status: str) -> str:
        since = "" if self.since is None else f" since {self._time(self.since)}"
        if self.now - self.at <= _NOW:
            return f"{self.user} is {status}{since}"
        return f"{self.user} was {status} at {self._time(self.at)}{since and f',{since}'}"

    def _time(self, at: float) -> str:
        return instant(at, self.now)

    def _point(self, *indexes: int | None) -> None:
        self.evidence.update(index for index in indexes if index is not None)

    def _transition(self, index: int | None) -> Transition | None:
        """The transition of the user's own at a place of the timeline."""
        entry = None if index is None else self.entries[index]
        return entry if isinstance(entry, Transition) and entry.shown is not None else None

    def _ended(self, end: End) -> str:
        return f"the last connection ({_place(end)}) ended at {self._time(end.at)} {manner(end.ending)}"

    def _connection(self, carried: Carried) -> str:
        self._point(carried.index)
        c = carried.connection
        opened = f"opened at {self._time(c.opened_at)}"
        return f"tab {c.tab}, node {node_of(carried.incarnation)}, {opened}, {c.ready.value}"

    def _last_end(self) -> End | None:
        """The connection that ended last."""
        return max((e for e in self.moment.ends if e.ending.connection), key=lambda e: e.at, default=None)

    def _longest(self) -> End | None:
        """Of the windows that may be running, the longest."""
        return max((e for e in self.moment.ends if e.ending.window > 0), key=lambda e: e.deadline, default=None)

    def _deciding(self, offline: Transition) -> End | None:
        """The end whose window, or whose lack of one, brought an OFFLINE: of its cause, the one that lasted longest."""
        same = [e for e in self.moment.ends if e.ending.cause == offline.cause]
        return max(same, key=lambda e: (e.deadline, e.at), default=None)


def _place(end: End) -> str:
    return f"tab {end.ending.tab}, node {node_of(end.incarnation)}"


def _count(number: int) -> str:
    return "1 connection is" if number == 1 else f"{number} connections are"
