"""Nodes and the ledger that they share: recovery, channels, notices, and what an epoch that was lost leaves behind."""

from __future__ import annotations

import pytest

from stillhere.core.clock import ClockLimits
from stillhere.core.events import Change, Notice, NoticeKind, Transition
from stillhere.core.leases import Answer, Limits
from stillhere.core.ledger import Ledger
from stillhere.core.record import ConnectionSummary, Contribution, Ending
from stillhere.core.words import Cause, ConnectionId, Incarnation, Phase, ReadyState, SessionId, TabId, UserId

ALICE = UserId("alice")
A1, A2, B1 = Incarnation("a.1"), Incarnation("a.2"), Incarnation("b.1")
LEASE = 15.0
LIMITS = Limits(watchers_outlive=True, clock=ClockLimits(gap_hold=6.0, recovery_hold=20.0))


def connection(id: str = "c1", tab: str = "t1", opened_at: float = 100.0, session: str = "s1") -> ConnectionSummary:
    return ConnectionSummary(ConnectionId(id), SessionId(session), TabId(tab), ReadyState.OPEN, opened_at)


def ending(c: ConnectionSummary, cause: Cause, window: float = 8.0, ago: float = 0.0) -> Ending:
    return Ending(c.id, c.session, c.tab, cause, window, ago, 0, c)


class House:
    """Some nodes and their ledger."""

    def __init__(self) -> None:
        self.ledger = Ledger(LIMITS)
        self.now = 100.0
        self.revision = 0
        self.ledger.hello(self.now, "run 1", processes=["a"])
        self.join(A1)
        self.join(B1)
        assert self.ledger.asserted(self.now, A1, 1) is Answer.OK

    def join(self, incarnation: Incarnation, channel: int = 1) -> None:
        process = incarnation.rpartition(".")[0]
        assert self.ledger.join(self.now, incarnation, channel, LEASE, process, b"{}") is Answer.OK

    def put(
        self, incarnation: Incarnation, *connections: ConnectionSummary, endings: tuple[Ending, ...] = ()
    ) -> list[Transition]:
        self.revision += 1
        told = Contribution(ALICE, self.revision, connections, endings)
        assert self.ledger.put(self.now, incarnation, 1, [told]) is Answer.OK
        return [event for event in self.ledger.take_events() if isinstance(event, Transition)]

    def restart(self, run: str) -> None:
        self.ledger.hello(self.now, run, processes=["a"])

    def wait(self, seconds: float) -> list[Transition]:
        found = []
        until = self.now + seconds
        while self.now < until:
            self.now += 1.0
            for incarnation in list(self.ledger.state.leases):
                self.ledger.beat(self.now, incarnation, 9, LEASE, b"{}")
            self.ledger.sweep(self.now)
            found += [event for event in self.ledger.take_events() if isinstance(event, Transition)]
        return found

    def recovered(self) -> None:
        """The time for the nodes to tell again is over."""
        self.wait(21.0)
        assert not self.ledger.state.clock.on_hold

    @property
    def phase(self) -> Phase:
        return self.ledger.records[ALICE].phase


# -- recovery -------------------------------------------------------------------------------------------------------


def test_a_restart_that_kept_the_data_is_over_when_all_have_told_what_they_carry() -> None:
    house = House()
    house.recovered()
    house.restart("run 2")
    assert house.ledger.state.clock.recovering and house.ledger.state.awaited == {"a", "b"}
    assert house.ledger.sweep(house.now) is Answer.HOLD
    house.ledger.asserted(house.now, A1, 1)
    assert house.ledger.state.clock.recovering, "b has not spoken"
    house.ledger.asserted(house.now, B1, 1)
    assert not house.ledger.state.clock.on_hold


def test_data_are_known_by_the_epoch_in_which_they_began() -> None:
    ledger = Ledger()
    ledger.hello(1024.0, "run-1")
    born = ledger.state.born
    assert born == ledger.state.epoch > 0
    ledger.hello(1025.0, "run-2")
    assert ledger.state.born == born < ledger.state.epoch, "another run with the same data"
    other = Ledger()
    other.hello(1026.0, "run-3", known_epoch=ledger.state.epoch)
    assert other.state.born > ledger.state.epoch


def test_a_store_that_was_wiped_takes_the_whole_time_because_windows_are_lost_too() -> None:
    house = House()
    house.ledger = Ledger(LIMITS)
    house.ledger.hello(house.now, "run 2", known_epoch=1024, processes=["a"])
    house.join(A2)
    house.ledger.asserted(house.now, A2, 1)
    assert house.ledger.state.awaited == set()
    house.wait(19.0)
    assert house.ledger.state.clock.recovering
    house.wait(2.0)
    assert not house.ledger.state.clock.recovering


def test_an_empty_store_that_nobody_knew_waits_only_until_one_who_did_would_have_said_so() -> None:
    house = House()
    house.wait(5.0)
    assert house.ledger.state.clock.recovering
    house.wait(2.0)
    assert not house.ledger.state.clock.recovering


def test_an_empty_store_that_a_later_node_knew_takes_the_whole_time_from_then() -> None:
    house = House()
    house.wait(5.0)
    house.ledger.hello(house.now, "run 1", known_epoch=1024)
    house.ledger.hello(house.now, "run 1", known_epoch=house.ledger.state.epoch)
    house.wait(19.0)
    assert house.ledger.state.clock.recovering
    house.wait(2.0)
    house.ledger.hello(house.now, "run 1", known_epoch=1024)
    assert not house.ledger.state.clock.recovering, "what is over does not begin again"


def test_a_restart_during_the_recovery_from_a_loss_does_not_end_it_early() -> None:
    house = House()
    house.ledger = Ledger(LIMITS)
    house.ledger.hello(house.now, "run 2", known_epoch=1024, processes=["a"])
    house.join(A2)
    house.wait(5.0)
    house.restart("run 3")
    house.ledger.asserted(house.now, A2, 1)
    assert house.ledger.state.awaited == set()
    house.wait(19.0)
    assert house.ledger.state.clock.recovering, "the windows are still gone"
    house.wait(2.0)
    house.restart("run 4")
    house.ledger.asserted(house.now, A2, 1)
    assert not house.ledger.state.clock.recovering, "after that recovery a restart is like any other"


def test_a_node_that_another_one_knows_of_is_awaited_though_the_store_forgot_it() -> None:
    house = House()
    house.ledger.hello(house.now, "run 2", processes=["c"])
    assert house.ledger.state.awaited == {"a", "b", "c"}
    house.ledger.asserted(house.now, A1, 1)
    house.ledger.hello(house.now, "run 2", processes=["a", "c"])
    assert house.ledger.state.awaited == {"b", "c"}, "who has told is not awaited again"


def test_who_joins_during_a_recovery_is_awaited() -> None:
    house = House()
    house.restart("run 2")
    house.join(Incarnation("d.1"))
    assert "d" in house.ledger.state.awaited
    house.ledger.asserted(house.now, A1, 1)
    house.join(A2)
    assert "a" not in house.ledger.state.awaited


def test_a_fenced_incarnation_asserts_nothing() -> None:
    house = House()
    house.restart("run 2")
    assert house.ledger.asserted(house.now, Incarnation("x.1"), 1) is Answer.FENCED
    assert house.ledger.state.awaited == {"a", "b"}


# -- channels -------------------------------------------------------------------------------------------------------


def test_what_comes_over_an_older_connection_is_refused() -> None:
    house = House()
    house.ledger.speak(A1, 5)
    assert house.ledger.put(house.now, A1, 4, []) is Answer.FENCED
    house.ledger.speak(A1, 3)
    assert house.ledger.put(house.now, A1, 4, []) is Answer.FENCED
    assert house.ledger.put(house.now, A1, 5, []) is Answer.OK


def test_the_hello_of_an_incarnation_without_a_lease_leaves_nothing() -> None:
    house = House()
    house.ledger.speak(A2, 7)
    assert A2 not in house.ledger.state.channels


def test_a_beat_on_an_older_connection_does_not_say_anything_of_the_node() -> None:
    house = House()
    house.ledger.speak(A1, 5)
    assert house.ledger.beat(house.now, A1, 1, LEASE, b"late") is Answer.FENCED
    assert house.ledger.state.about[A1] == b"{}"
    assert house.ledger.beat(house.now, A1, 5, LEASE) is Answer.OK and house.ledger.state.about[A1] == b"{}"


# -- notices --------------------------------------------------------------------------------------------------------


def test_notices_have_their_places_between_the_transitions() -> None:
    house = House()
    joined = house.ledger.take_notices()
    assert [(n.kind, n.target, n.version) for n in joined] == [(NoticeKind.JOINED, "a", 1), (NoticeKind.JOINED, "b", 2)]
    (online,) = house.put(A1, connection())
    assert online.version == 3
    assert house.ledger.notify(house.now, NoticeKind.DISMISSED, "a", "alice", "kicked", "spam") is Answer.OK
    assert house.ledger.take_notices() == [
        Notice(NoticeKind.DISMISSED, 4, house.now, "a", ALICE, ConnectionId(""), "kicked", "spam")
    ]


def test_an_empty_store_takes_no_notice() -> None:
    assert Ledger(LIMITS).notify(1.0, NoticeKind.DRAIN, "n1") is Answer.NO_EPOCH


def test_the_older_connection_of_a_tab_on_another_node_is_told_to_go() -> None:
    house = House()
    house.put(A1, connection("old", opened_at=100.0))
    house.ledger.take_notices()
    house.put(B1, connection("new", opened_at=101.0), connection("other", tab="t2"))
    (notice,) = house.ledger.take_notices()
    assert (notice.kind, notice.target, notice.connection) == (NoticeKind.SUPERSEDED, A1, "old")
    assert house.ledger.records[ALICE].active_count == 3, "it counts until its own node has closed it"


# -- what an epoch that was lost leaves behind ----------------------------------------------------------------------


def test_who_is_back_from_a_window_of_a_lost_epoch_is_told_again() -> None:
    house = House()
    c = connection()
    house.put(A1, c)
    house.put(A1, endings=(ending(c, Cause.GOING_AWAY),))
    assert house.phase is Phase.HELD and not house.ledger.doubtful(ALICE)
    house.restart("run 2")
    assert house.ledger.doubtful(ALICE)
    (again,) = house.put(B1, connection("c2", opened_at=101.0))
    assert (again.change, again.shown and again.shown.status) == (Change.UPDATED, "online")
    assert not house.ledger.doubtful(ALICE) and not house.ledger.doubtful(UserId("nobody"))


def test_a_process_that_came_back_as_a_new_incarnation_ends_nothing() -> None:
    house = House()
    c = connection()
    house.put(A1, c)
    house.join(A2)
    assert house.put(A2, c) == []
    house.ledger.retire(house.now, A1)
    assert house.ledger.reap(house.now, A1, 30.0) == 1
    record = house.ledger.records[ALICE]
    assert record.holds == {} and record.gone == () and house.phase is Phase.ONLINE
    assert house.ledger.take_events() == []


def test_a_late_end_from_another_node_reopens_nothing_after_a_goodbye() -> None:
    house = House()
    house.recovered()
    old, new = connection("old"), connection("new", tab="t1", opened_at=101.0)
    house.put(A1, old)
    house.put(B1, new)
    house.put(B1, endings=(ending(new, Cause.BYE, 0.0),))
    assert house.phase is Phase.ONLINE
    house.now += 2.0
    (offline,) = house.put(A1, endings=(ending(old, Cause.ABNORMAL, 15.0, ago=3.0),))
    assert (offline.change, house.phase) == (Change.OFFLINE, Phase.OFFLINE)


def test_a_goodbye_does_not_cover_what_ended_after_it() -> None:
    house = House()
    bye, other = connection("bye"), connection("other", tab="t2")
    house.put(A1, bye)
    house.put(B1, other)
    house.put(A1, endings=(ending(bye, Cause.BYE, 0.0),))
    house.now += 2.0
    house.put(B1, endings=(ending(other, Cause.ABNORMAL, 15.0, ago=1.0),))
    assert house.phase is Phase.HELD


def test_a_goodbye_that_is_remembered_outlives_a_jump_of_the_time_without_harm() -> None:
    house = House()
    bye, other = connection("bye"), connection("other", tab="t2")
    house.put(A1, bye, other)
    house.put(A1, other, endings=(ending(bye, Cause.BYE, 0.0),))
    house.now -= 3600.0
    house.put(A1, endings=(ending(other, Cause.GOING_AWAY),))
    assert house.phase is Phase.HELD, "an end after the goodbye opens its window, whatever the time says"


# -- while nothing expires, nobody goes -------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", [Cause.BYE, Cause.KICKED, Cause.REVOKED, Cause.EXPIRED])
def test_a_goodbye_told_before_another_node_has_told_of_its_open_connection_shows_nobody_offline(cause: Cause) -> None:
    house = House()
    one, two = connection("one"), connection("two", tab="t2")
    house.put(A1, one)
    assert house.put(A1, endings=(ending(one, cause, 0.0),)) == []
    assert house.phase is Phase.HELD
    assert house.put(B1, two) == []
    assert house.wait(60.0) == []
    assert house.ledger.records[ALICE].phase is Phase.ONLINE


def test_who_said_goodbye_while_nothing_expired_goes_as_soon_as_something_may() -> None:
    house = House()
    one, two = connection("one"), connection("two", tab="t2")
    house.put(A1, one, two)
    house.put(A1, two, endings=(ending(one, Cause.ABNORMAL, 30.0),))
    assert house.put(A1, endings=(ending(two, Cause.BYE, 0.0),)) == []
    house.wait(5.0)
    assert house.phase is Phase.HELD
    (offline,) = house.wait(2.0)
    assert (offline.change, offline.cause) == (Change.OFFLINE, "bye"), "the window of its session is over as well"


def test_an_end_that_another_tabs_goodbye_covers_shows_nobody_offline_while_nothing_expires() -> None:
    house = House()
    one, two = connection("one"), connection("two", tab="t2")
    house.put(A1, one)
    house.put(B1, two)
    house.now += 1.0
    house.put(A1, endings=(ending(one, Cause.BYE, 0.0),))
    assert house.put(B1, endings=(ending(two, Cause.ABNORMAL, 15.0, ago=0.5),)) == []
    assert house.phase is Phase.HELD
    assert [t.change for t in house.wait(21.0)] == [Change.OFFLINE]


def test_a_connection_that_the_store_forgot_has_its_window_though_it_ended_before_it_was_told_again() -> None:
    house = House()
    house.recovered()
    c = connection(opened_at=house.now)
    house.restart("run 2, without the last writes")
    house.now += 0.2
    (shown,) = house.put(A1, endings=(ending(c, Cause.ABNORMAL, 8.0, ago=0.1),))
    assert (shown.change, shown.cause, house.phase) == (Change.ONLINE, "connection_open", Phase.HELD)
    house.ledger.asserted(house.now, A1, 1)
    house.ledger.asserted(house.now, B1, 1)
    assert not house.ledger.state.clock.on_hold, "the recovery is over early"
    assert house.wait(7.0) == []
    (offline,) = house.wait(2.0)
    assert (offline.change, offline.cause) == (Change.OFFLINE, "abnormal")


def test_who_came_and_went_and_whose_window_is_past_is_not_shown_by_a_store_that_recovers() -> None:
    house = House()
    c = connection()
    assert house.put(A1, endings=(ending(c, Cause.ABNORMAL, 8.0, ago=9.0),)) == []
    assert house.ledger.shown(ALICE).version == 0


# -- who speaks for which connection ----------------------------------------------------------------------------------


def test_what_the_new_incarnation_alone_tells_of_an_end_ends_the_connection_of_the_former_one() -> None:
    house = House()
    house.recovered()
    c = connection()
    house.put(A1, c)
    house.join(A2)
    (offline,) = house.put(A2, endings=(ending(c, Cause.BYE, 0.0),))
    assert (offline.change, offline.cause) == (Change.OFFLINE, "bye")
    house.ledger.retire(house.now, A1)
    house.ledger.reap(house.now, A1, 30.0)
    assert house.phase is Phase.OFFLINE, "there is nobody left to hold"


def test_a_goodbye_leaves_the_window_of_another_tab_whose_node_was_lost() -> None:
    house = House()
    house.recovered()
    one, two = connection("one"), connection("two", tab="t2")
    house.put(A1, one)
    house.put(B1, two)
    house.ledger.retire(house.now, A1)
    house.ledger.reap(house.now, A1, 30.0)
    house.now += 1.0
    assert house.put(B1, endings=(ending(two, Cause.BYE, 0.0),)) == []
    assert house.phase is Phase.HELD, "nobody closed that tab: it may be open on a node that is cut off"
    assert [t.cause for t in house.wait(30.0)] == ["node_lost"]


def test_a_goodbye_does_not_cover_the_loss_of_a_node_that_is_noticed_after_it() -> None:
    house = House()
    house.recovered()
    one, two = connection("one"), connection("two", tab="t2")
    house.put(A1, one)
    house.put(B1, two)
    house.now += 1.0
    house.put(B1, endings=(ending(two, Cause.BYE, 0.0),))
    house.ledger.retire(house.now, A1)
    house.ledger.reap(house.now, A1, 30.0)
    assert house.phase is Phase.HELD


def test_a_kick_ends_the_window_of_a_lost_node_too() -> None:
    house = House()
    house.recovered()
    one, two = connection("one"), connection("two", tab="t2")
    house.put(A1, one)
    house.put(B1, two)
    house.ledger.retire(house.now, A1)
    house.ledger.reap(house.now, A1, 30.0)
    (offline,) = house.put(B1, endings=(ending(two, Cause.KICKED, 0.0),))
    assert offline.cause == "kicked"


def test_the_end_that_a_node_tells_itself_counts_though_it_was_taken_for_lost() -> None:
    house = House()
    house.recovered()
    c = connection()
    house.put(A1, c)
    house.ledger.retire(house.now, A1)
    house.ledger.reap(house.now, A1, 10.0)
    house.wait(8.0)
    house.join(A2)
    house.put(A2, endings=(ending(c, Cause.ABNORMAL, 15.0),))
    assert house.wait(14.0) == []
    assert [t.cause for t in house.wait(2.0)] == ["abnormal"]


def test_a_goodbye_between_two_ends_of_a_tab_leaves_the_window_of_the_newer_one() -> None:
    house = House()
    house.recovered()
    one = connection("one")
    house.put(A1, one)
    house.ledger.retire(house.now, A1)
    house.ledger.reap(house.now, A1, 30.0)
    house.now += 1.0
    two = connection("two", opened_at=house.now)
    house.put(B1, two)
    house.now += 2.0
    house.put(B1, endings=(ending(two, Cause.GOING_AWAY, 8.0),))
    house.now += 1.0
    house.put(B1, endings=(ending(connection("other", tab="t9"), Cause.KICKED, 0.0, ago=2.0),))
    assert house.phase is Phase.HELD, "the tab was closed after the kick"


# -- what an epoch that was lost leaves behind ------------------------------------------------------------------------


def test_who_is_there_only_as_a_lost_epoch_left_it_is_doubtful_until_a_node_tells_of_it() -> None:
    house = House()
    c = connection()
    house.put(A1, c)
    assert not house.ledger.doubtful(ALICE)
    house.restart("run 2")
    assert house.ledger.doubtful(ALICE) and house.phase is Phase.ONLINE
    assert house.put(A1, c) == [], "to most watchers nothing changed"
    assert not house.ledger.doubtful(ALICE)
    assert not house.ledger.doubtful(UserId("nobody"))


def test_so_many_are_forgotten_per_sweep_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillhere.core.ledger._FORGET_MOST", 1)
    ledger = Ledger(Limits(known_users=0))
    ledger.hello(1.0, "run")
    ledger.join(1.0, A1, 1, LEASE)
    for name in ("alice", "bob"):
        c = connection()
        ledger.put(1.0, A1, 1, [Contribution(UserId(name), 1, (c,))])
        ledger.put(1.0, A1, 1, [Contribution(UserId(name), 2, (), (ending(c, Cause.BYE, 0.0),))])
    ledger.sweep(1.0)
    assert set(ledger.records) == {"bob"}
    ledger.sweep(1.0)
    assert ledger.records == {}
