"""What is promised: which windows run, as reckoned from what nodes told, without the rules that are on trial.

A window that a departure ended is usually over at once. Where an outage or a jump of the clock lies between the two,
the store cannot know their order and keeps the window, which is the safe side: such a window is *spare*. It may be kept
and need not be.
"""

from __future__ import annotations

import msgspec

from stillhere.core.clock import StoreClock
from stillhere.core.record import Ending
from stillhere.core.words import FINAL_CAUSES, Cause

NEAR = 0.05
"""Seconds: two instants that are told by two nodes and are so near have no order."""

REMEMBERED = 8
"""So many departures of a user are sure to be remembered."""


class Promise(msgspec.Struct, frozen=True):
    """A window that was promised when its end was told."""

    connection: str
    session: str
    tab: str
    cause: Cause
    since: float
    until: float
    deadline: float
    """The same as ``until``, on the store clock."""


class Departure(msgspec.Struct, frozen=True):
    """A goodbye, as it was told."""

    session: str
    tab: str
    everything: bool
    at: float
    stranger: bool = False
    """The bye of a user of whom the store knew nothing: it keeps no record of somebody who was never there."""

    def speaks_for(self, session: str, tab: str, cause: Cause) -> bool:
        """Whether it ends windows of this tab or session: nobody closed a tab whose node was lost."""
        return self.everything or tab == self.tab or (session == self.session and cause is not Cause.NODE_LOST)


class Windows(msgspec.Struct):
    """Of one user."""

    promised: list[Promise] = []
    spare: list[Promise] = []
    unremembered: list[Promise] = []
    """Of ends before the bye of a stranger, told after it: to the store they look like any other."""
    departures: list[Departure] = []
    closed: dict[str, float] = {}
    """When a connection of a tab last ended by itself."""
    told: set[str] = set()
    """Connections whose own end was told."""

    def end(
        self,
        ending: Ending,
        now: float,
        clock: StoreClock,
        *,
        present: bool,
        carried: bool,
        murky: float,
        stranger: bool = False,
    ) -> None:
        """A connection ended.

        Args:
            ending: as told.
            now: seconds from the start.
            clock: of the store, at this moment.
            present: the user is shown, or may have been before the store lost its data.
            carried: the store had the connection as active.
            murky: when the store's clock last was disturbed: the order of what lies on both sides is not known.
            stranger: the store knew nothing of the user, and is told of no connection.

        A kick is remembered even of a stranger, a bye is not.
        """
        since = now - ending.ago
        final = ending.cause in FINAL_CAUSES
        if final and ending.cause is not Cause.SUPERSEDED:
            everything = ending.cause is not Cause.BYE
            self._depart(Departure(ending.session, ending.tab, everything, since, stranger and not everything), murky)
        promise = Promise(
            ending.connection,
            ending.session,
            ending.tab,
            ending.cause,
            since,
            since + ending.window,
            clock.value + ending.window - ending.ago,
        )
        told = ending.connection in self.told
        self.told.add(ending.connection)
        lost = [p.since for p in self.promised if p.connection == ending.connection and p.cause is Cause.NODE_LOST]
        self.closed[ending.tab] = max((since, self.closed.get(ending.tab, since), *lost))
        if final:
            return
        if (told and not carried) or not present or ending.last is None or ending.window <= 0:
            return
        over = [d for d in self.departures if d.speaks_for(ending.session, ending.tab, ending.cause)]
        after = [d for d in over if d.at >= since - NEAR]
        known = [d for d in after if not (d.at < since + NEAR or murky >= min(since, d.at))]
        if not after:
            self.promised.append(promise)
        elif not known or len(self.departures) > REMEMBERED:
            self.spare.append(promise)
        elif all(d.stranger for d in known):
            self.unremembered.append(promise)

    def _depart(self, departure: Departure, murky: float) -> None:
        self.departures.append(departure)
        kept = []
        for p in self.promised:
            cause, back = p.cause, self.closed.get(p.tab, -1.0) >= p.since - NEAR
            if back and cause is Cause.NODE_LOST:
                cause = Cause.GOING_AWAY  # the tab was heard of again since: what counts is how that ended
            if not departure.speaks_for(p.session, p.tab, cause) or p.since > departure.at + NEAR:
                kept.append(p)
                continue
            back = back and p.cause is Cause.NODE_LOST
            newer = any(o.tab == p.tab and o.since > departure.at - NEAR for o in self.promised)
            near = p.since > departure.at - NEAR
            if newer or near or back or murky >= min(p.since, departure.at):
                self.spare.append(p)
        self.promised = kept

    def lost_node(self, connection: str, session: str, tab: str, cause: Cause, now: float, at: float, w: float) -> None:
        """The node of a connection was declared dead: its user is held for ``w`` seconds from now on."""
        # of two windows of a tab the longer one stays, with its cause: this node had an older connection of it
        longer = [p for p in self.promised if p.tab == tab and p.deadline > at + w]
        if longer:
            cause = max(longer, key=lambda p: p.deadline).cause
        self.promised.append(Promise(connection, session, tab, cause, now, now + w, at + w))

    def running(self, clock: float) -> bool:
        """Whether some window is not over yet, on the store clock."""
        return any(p.deadline > clock for p in self.promised) or any(p.deadline > clock for p in self.spare)

    def lingering(self, clock: float) -> bool:
        """Whether the store may keep a window because it does not remember a bye."""
        return any(p.deadline > clock for p in self.unremembered)

    def copy(self) -> Windows:
        """As it is now; what is in it never changes."""
        kinds = list(self.promised), list(self.spare), list(self.unremembered)
        return Windows(*kinds, list(self.departures), dict(self.closed), set(self.told))
