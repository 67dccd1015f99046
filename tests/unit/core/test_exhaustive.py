"""Everything that can happen to one user with up to three connections, in two tabs and two sessions.

``explore.py`` visits every state of the real code and takes every edge, and checks the promises on each. That it would
notice is shown by breaking a rule at a time.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stillhere.core import ledger as ledger_module
from stillhere.core import windows
from stillhere.core.clock import StoreClock
from stillhere.core.connection import Connection, Input
from stillhere.core.ledger import Ledger
from stillhere.core.record import ConnectionSummary, Ending, Hold, Record, Shown
from stillhere.core.roster import Ended, Roster
from stillhere.core.windows import Situation
from stillhere.core.words import Cause, Phase, ReadyState, UserId
from tests.unit.core import explore as explore_module
from tests.unit.core.explore import explore

Patch = pytest.MonkeyPatch

STATES = 11_362
EDGES = 191_038
UNDISTURBED = 111_731
"""What was found when this was written. More is welcome; fewer means that the exploration has shrunk."""


@pytest.fixture
def at_full_speed() -> Iterator[None]:
    """Neither coverage nor the garbage collector looks on: there are no cycles, and other tests cover the lines."""
    trace = sys.gettrace()
    sys.settrace(None)
    gc.disable()
    yield
    gc.enable()
    sys.settrace(trace)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("at_full_speed")
def test_every_interleaving_of_three_connections_keeps_every_promise(
    record_property: Callable[[str, object], None],
) -> None:
    found = explore(3)
    record_property("explored", str(found))
    assert found.states >= STATES
    assert found.edges >= EDGES
    assert found.undisturbed >= UNDISTURBED
    assert set(found.phases) == set(Phase)
    # the longest way: a handshake of two ticks, or CLOSING for one and then a window of two
    assert found.longest_way_to_rest == 3


@pytest.mark.usefixtures("at_full_speed")
def test_two_connections_keep_every_promise_with_a_longer_close_timeout_as_well(monkeypatch: Patch) -> None:
    monkeypatch.setattr(explore_module, "CLOSE", 2.0)
    found = explore(2)
    assert found.states >= 1935
    assert found.longest_way_to_rest == 4


# -- rules broken one at a time: each is noticed with one or two connections -----------------------------------------


def upgrades_in_flight_are_ignored(patch: Patch) -> None:
    def situation(record: Record) -> Situation:
        found = windows.situation(record)
        return Situation.NOTHING if found is Situation.IN_FLIGHT else found

    patch.setattr(ledger_module, "situation", situation)


def closing_does_not_count(patch: Patch) -> None:
    patch.setattr(ReadyState, "active", property(lambda self: self is ReadyState.OPEN))


def closing_has_no_end(patch: Patch) -> None:
    def closing(self: Roster, c: Connection, what: Input, now: float, cause: Cause, code: int, *by: str) -> None:
        if c.step(what, cause, code):
            self._touch(c.user)

    patch.setattr(Roster, "_closing", closing)


def a_second_close_frame_restarts_the_close_timeout(patch: Patch) -> None:
    def closing(self: Roster, c: Connection, what: Input, now: float, cause: Cause, code: int, *by: str) -> None:
        c.step(what, cause, code)
        if c.ready is ReadyState.CLOSING:
            self._deadlines.set(c.id, now + self.close_timeout)
            self._touch(c.user)

    patch.setattr(Roster, "_closing", closing)
    patch.setattr(explore_module, "CLOSE", 2.0)  # within one tick there would be nothing to move


def the_close_of_one_connection_ends_all(patch: Patch) -> None:
    end = Roster._end

    def ends(self: Roster, c: Connection, what: Input, now: float, cause: Cause | None = None, *by: Any) -> None:
        others = [o for o in self.of(c.user) if o is not c] if what is Input.LOST else []
        end(self, c, what, now, cause)
        for other in others:
            end(self, other, what, now, cause)

    patch.setattr(Roster, "_end", ends)


def a_late_close_is_an_ending(patch: Patch) -> None:
    lost = Roster.lost

    def loses(self: Roster, c: Connection, now: float, cause: Cause = Cause.ABNORMAL) -> None:
        if c.ready is ReadyState.CLOSED and c.user in self._people:
            person = self._touch(c.user)
            person.endings += (Ended(c, cause, 0, now, person.revision),)
        lost(self, c, now, cause)

    patch.setattr(Roster, "lost", loses)


def a_close_counts_by_a_number(patch: Patch) -> None:
    """The newest connection of the user goes, whichever ended."""
    end = Roster._end

    def ends(self: Roster, c: Connection, what: Input, now: float, cause: Cause | None = None, *by: Any) -> None:
        end(self, self.of(c.user)[-1] if c.ready is not ReadyState.CLOSED else c, what, now, cause)

    patch.setattr(Roster, "_end", ends)


def the_newest_window_wins(patch: Patch) -> None:
    def hold(record: Record, new: Hold, *_: Any) -> None:
        record.holds[new.connection.tab] = new

    patch.setattr(windows, "_hold", hold)


def a_reconnect_forgets_the_windows(patch: Patch) -> None:
    settle = Ledger._settle

    def settles(self: Ledger, record: Record, now: float, cause: str | None) -> None:
        if record.active_count:
            record.holds.clear()
        settle(self, record, now, cause)

    patch.setattr(Ledger, "_settle", settles)


def a_bye_leaves_the_windows_of_its_session(patch: Patch) -> None:
    patch.setattr(windows, "_depart", lambda record, *_: None)


def a_bye_ends_the_windows_of_everybody(patch: Patch) -> None:
    patch.setattr(windows, "_depart", lambda record, *_: record.holds.clear())


def the_window_is_not_stored(patch: Patch) -> None:
    patch.setattr(windows, "_hold", lambda record, *_: None)


def a_window_has_no_timer(patch: Patch) -> None:
    patch.setattr(Ledger, "_watch_deadline", lambda self, record: None)


def a_superseded_connection_leaves_a_window(patch: Patch) -> None:
    end = windows.end_connection

    def ends(
        record: Record,
        ending: Ending,
        was: ConnectionSummary | None,
        since: float,
        clock: StoreClock,
        **told: Any,
    ) -> Cause:
        if ending.cause is Cause.SUPERSEDED:
            ending = Ending(ending.connection, ending.session, ending.tab, Cause.ABNORMAL, 2.0, 0.0, 0, ending.last)
        return end(record, ending, was, since, clock, **told)

    patch.setattr(ledger_module, "end_connection", ends)


def the_older_connection_of_a_tab_may_win(patch: Patch) -> None:
    def opens(self: Roster, c: Connection, now: float) -> None:
        c.step(Input.OPENED)
        self._deadlines.set(c.id, None)
        self._touch(c.user)
        for other in self.of(c.user):
            if other.tab == c.tab and other is not c and other.ready.active:
                self._end(other, Input.DEPARTED, now, Cause.SUPERSEDED)

    patch.setattr(Roster, "open", opens)


def a_kick_forgets_the_windows_while_an_upgrade_is_in_flight(patch: Patch) -> None:
    def dismiss(self: Roster, user: UserId, cause: Cause, now: float) -> list[Connection]:
        expelled = self.of(user)
        for c in expelled:
            self.depart(c, cause, now)
        return expelled

    patch.setattr(Roster, "dismiss", dismiss)


def a_read_cleans_up(patch: Patch) -> None:
    shown = Ledger.shown

    def shows(self: Ledger, user: UserId) -> Shown:
        if (record := self.records.get(user)) is not None:
            record.holds.clear()
        return shown(self, user)

    patch.setattr(Ledger, "shown", shows)


def a_failed_upgrade_is_not_told(patch: Patch) -> None:
    def refuse(self: Roster, c: Connection, now: float) -> None:
        c.step(Input.REFUSED)
        self._deadlines.set(c.id, None)
        del self.connections[c.id]
        person = self._people[c.user]
        person.connections = tuple(other for other in person.connections if other is not c)

    patch.setattr(Roster, "refuse", refuse)


BROKEN = [
    upgrades_in_flight_are_ignored,
    closing_does_not_count,
    closing_has_no_end,
    a_second_close_frame_restarts_the_close_timeout,
    the_close_of_one_connection_ends_all,
    a_late_close_is_an_ending,
    a_close_counts_by_a_number,
    the_newest_window_wins,
    a_reconnect_forgets_the_windows,
    a_bye_leaves_the_windows_of_its_session,
    a_bye_ends_the_windows_of_everybody,
    the_window_is_not_stored,
    a_window_has_no_timer,
    a_superseded_connection_leaves_a_window,
    the_older_connection_of_a_tab_may_win,
    a_kick_forgets_the_windows_while_an_upgrade_is_in_flight,
    a_read_cleans_up,
    a_failed_upgrade_is_not_told,
]


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_the_exploration_notices_when(rule: Callable[[Patch], Any], monkeypatch: Patch) -> None:
    rule(monkeypatch)
    with pytest.raises(AssertionError):
        explore(2)
