"""The connections of one node, and what it tells the store of them."""

from __future__ import annotations

import pytest

from stillhere.core.connection import Connection
from stillhere.core.errors import LocalMisuse
from stillhere.core.grace import GracePolicy
from stillhere.core.record import ConnectionSummary, Leave
from stillhere.core.roster import Order, Roster
from stillhere.core.words import (
    Availability,
    Cause,
    ConnectionId,
    ReadyState,
    RoomName,
    SessionId,
    TabId,
    UserId,
)
from tests.unit.core.world import ALICE, START

ROOM = RoomName("r")


@pytest.fixture
def roster() -> Roster:
    return Roster(GracePolicy.of(), handshake_timeout=4.0, close_timeout=2.0)


def connecting(roster: Roster, id: str = "c1", tab: str = "t1", *, in_flight: bool = False) -> Connection:
    c = Connection(ConnectionId(id), ALICE, SessionId("s1"), TabId(tab), START)
    roster.begin(c, START, in_flight=in_flight)
    return c


def opened(roster: Roster, id: str = "c1", tab: str = "t1") -> Connection:
    c = connecting(roster, id, tab)
    roster.open(c, START)
    return c


def taken(roster: Roster, now: float = START) -> None:
    """Everything is told and acknowledged."""
    roster.acknowledge(roster.take_contributions(now))


def test_handshake_and_close_take_five_seconds_at_most_unless_told_otherwise() -> None:
    roster = Roster(GracePolicy.of())
    assert (roster.handshake_timeout, roster.close_timeout) == (5.0, 5.0)


def test_an_upgrade_that_is_decided_at_once_is_not_told_before_it_is(roster: Roster) -> None:
    roster.begin(Connection(ConnectionId("c1"), ALICE, SessionId("s1"), TabId("t1"), START), START)
    assert not roster.changed
    assert roster.users() == [ALICE] and roster.user_count == 1
    assert roster.revision_of(ALICE) == 0
    assert roster.active_count(ALICE) == 0


def test_an_upgrade_in_flight_is_told(roster: Roster) -> None:
    connecting(roster, in_flight=True)
    assert roster.changed
    (told,) = roster.take_contributions(START)
    assert [c.ready for c in told.connections] == [ReadyState.CONNECTING]
    assert not roster.changed


def test_a_connection_begins_once(roster: Roster) -> None:
    c = connecting(roster)
    with pytest.raises(LocalMisuse, match="connection c1 has begun already"):
        roster.begin(c, START)


def test_an_upgrade_that_was_refused_cannot_be_granted(roster: Roster) -> None:
    c = connecting(roster)
    roster.refuse(c, START)
    with pytest.raises(LocalMisuse, match="connection c1 is CLOSED: opened cannot happen to it"):
        roster.open(c, START)
    assert roster.users() == []


def test_a_refused_upgrade_of_which_the_store_heard_is_withdrawn(roster: Roster) -> None:
    c = connecting(roster, in_flight=True)
    taken(roster)
    roster.refuse(c, START)
    (told,) = roster.take_contributions(START)
    assert told.connections == () and told.endings == ()
    roster.acknowledge([told])
    assert roster.users() == []


def test_of_two_upgrades_the_refused_one_leaves_the_other(roster: Roster) -> None:
    first, second = connecting(roster, "c1"), connecting(roster, "c2", "t2")
    roster.refuse(first, START)
    assert roster.of(ALICE) == [second]
    assert not roster.changed


def test_the_timer_bounds_the_handshake_and_the_close(roster: Roster) -> None:
    assert roster.next_deadline() is None
    slow = connecting(roster, "c1")
    closing = opened(roster, "c2", "t2")
    stays = opened(roster, "c3", "t3")
    roster.close_received(closing, 1001, START + 1)
    assert roster.next_deadline() == START + 3
    roster.fire(START + 2.875)
    assert roster.take_orders() == []
    roster.fire(START + 4)
    assert roster.take_orders() == [(Order.ABORT, closing), (Order.REFUSE, slow)]
    assert roster.take_orders() == []
    assert roster.next_deadline() is None
    assert roster.of(ALICE) == [stays]
    assert closing.cause is Cause.GOING_AWAY and closing.code == 1001


def test_an_ending_is_told_until_it_is_acknowledged(roster: Roster) -> None:
    c = opened(roster)
    roster.close_received(c, 1001, START + 1)
    roster.lost(c, START + 2)
    (told,) = roster.take_contributions(START + 3)
    (ending,) = told.endings
    assert (ending.connection, ending.tab, ending.session) == (c.id, c.tab, c.session)
    assert (ending.cause, ending.code, ending.window, ending.ago) == (Cause.GOING_AWAY, 1001, 8.0, 1.0)
    assert ending.last is not None and ending.last.ready is ReadyState.CLOSED
    roster.mark([ALICE, UserId("nobody")])
    (again,) = roster.take_contributions(START + 5)
    assert again.revision == told.revision and again.endings[0].ago == 3.0
    roster.acknowledge([again])
    assert roster.users() == [] and roster.user_count == 0
    roster.acknowledge([again])
    assert roster.revision_of(ALICE) == 0


def test_an_acknowledgement_covers_only_what_was_told(roster: Roster) -> None:
    first, second = opened(roster, "c1", "t1"), opened(roster, "c2", "t2")
    roster.join(first, ROOM, {})
    roster.leave(first, ROOM)
    roster.lost(first, START)
    told = roster.take_contributions(START)
    roster.join(second, ROOM, {})
    roster.leave(second, ROOM)
    roster.lost(second, START)
    roster.acknowledge(told)
    (rest,) = roster.take_contributions(START)
    assert [e.connection for e in rest.endings] == [second.id]
    assert rest.leaves == (Leave(second.tab, ROOM),)
    assert roster.users() == [ALICE]


def test_an_end_outlives_the_acknowledgement_of_what_was_told_before_it(roster: Roster) -> None:
    c = opened(roster)
    before = roster.take_contributions(START)
    roster.lost(c, START)
    told = roster.take_contributions(START)
    roster.acknowledge(before)
    roster.mark([ALICE])  # the reply to the second was lost
    assert roster.take_contributions(START) == told
    roster.acknowledge(told)
    assert roster.users() == []


def test_a_leave_is_told_until_it_is_acknowledged(roster: Roster) -> None:
    c = opened(roster)
    before = roster.take_contributions(START)
    roster.leave(c, ROOM)
    roster.acknowledge(before)
    told = roster.take_contributions(START)
    assert told[0].leaves == (Leave(c.tab, ROOM),)
    roster.acknowledge(told)
    assert roster.contribution(ALICE, START).leaves == ()


def test_a_user_who_changed_since_is_not_forgotten_by_an_acknowledgement(roster: Roster) -> None:
    c = opened(roster)
    roster.lost(c, START)
    told = roster.take_contributions(START)
    roster.mark([ALICE])
    roster.acknowledge(told)
    assert roster.changed
    taken(roster)
    assert roster.users() == []


def test_contributions_can_be_taken_in_portions(roster: Roster) -> None:
    for n in range(3):
        c = Connection(ConnectionId(f"c{n}"), UserId(f"u{n}"), SessionId("s"), TabId("t"), START)
        roster.begin(c, START)
        roster.open(c, START)
    assert [t.user for t in roster.take_contributions(START, 2)] == ["u0", "u1"]
    assert roster.changed
    assert [t.user for t in roster.take_contributions(START, 2)] == ["u2"]
    assert not roster.changed


def test_revisions_of_a_user_who_left_and_came_back_go_on_growing(roster: Roster) -> None:
    roster.depart(opened(roster, "c1"), Cause.BYE, START)
    before = roster.revision_of(ALICE)
    taken(roster)
    opened(roster, "c2")
    assert roster.revision_of(ALICE) > before


def test_a_clock_that_went_back_a_little_makes_no_end_in_the_future(roster: Roster) -> None:
    roster.lost(opened(roster), START)
    assert roster.contribution(ALICE, START - 1).endings[0].ago == 0.0


def test_metadata_merges_shallowly_and_null_deletes(roster: Roster) -> None:
    c = opened(roster)
    taken(roster)
    roster.state(c, None, {"a": 1, "b": {"x": 1}})
    roster.state(c, Availability.BUSY, {"a": None, "b": {"y": 1}})
    roster.state(c, None, None)
    assert c.meta == {"b": {"y": 1}}
    assert c.availability is Availability.BUSY
    assert roster.changed


def test_joining_again_changes_the_metadata_in_the_room(roster: Roster) -> None:
    c = opened(roster)
    roster.join(c, ROOM, {"a": 1})
    roster.join(c, RoomName("q"), {})
    roster.join(c, ROOM, {"b": 1})
    assert c.rooms == {ROOM: {"b": 1}, "q": {}}


def test_a_leave_says_whether_the_connection_was_there_and_is_told_either_way(roster: Roster) -> None:
    c = opened(roster)
    roster.join(c, ROOM, {})
    assert roster.leave(c, ROOM)
    assert c.rooms is None
    assert not roster.leave(c, ROOM)
    assert roster.contribution(ALICE, START).leaves == (Leave(c.tab, ROOM),) * 2


def test_a_leave_reaches_the_windows_of_its_tab_that_the_store_has_not_heard_of(roster: Roster) -> None:
    for tab in ("t0", "t1", "t2"):
        c = opened(roster, f"c of {tab}", tab)
        roster.join(c, ROOM, {})
        roster.lost(c, START)
    roster.leave(opened(roster, "c3", "t1"), ROOM)
    rooms = [e.last.rooms for e in roster.contribution(ALICE, START).endings if e.last]
    assert rooms == [{ROOM: {}}, None, {ROOM: {}}]


def test_what_a_connection_says_after_its_end_is_ignored(roster: Roster) -> None:
    c = opened(roster)
    roster.join(c, ROOM, {})
    roster.depart(c, Cause.BYE, START)
    taken(roster)
    roster.state(c, Availability.BUSY, {"a": 1})
    roster.join(c, RoomName("q"), {})
    assert not roster.leave(c, ROOM)
    assert (c.availability, c.meta, c.rooms) == (None, None, {ROOM: {}})
    assert not roster.changed and roster.users() == []


def test_what_a_tab_took_over_does_not_overwrite_what_was_stated_meanwhile(roster: Roster) -> None:
    c = opened(roster)
    told = ConnectionSummary(c.id, c.session, c.tab, c.ready, START, Availability.AWAY, {"a": 1})
    roster.state(c, Availability.BUSY, None)
    roster.adopt(ALICE, told)
    assert (c.availability, c.meta) == (Availability.BUSY, {"a": 1})
    roster.state(c, None, {"b": 1})
    roster.adopt(ALICE, told)
    assert c.meta == {"a": 1, "b": 1}


def test_nobody_takes_over_anything_for_another_user_or_an_unknown_connection(roster: Roster) -> None:
    c = opened(roster)
    roster.adopt(UserId("bob"), ConnectionSummary(c.id, c.session, c.tab, c.ready, START, Availability.AWAY))
    roster.adopt(ALICE, ConnectionSummary(ConnectionId("?"), c.session, c.tab, c.ready, START, Availability.AWAY))
    assert c.availability is None


def test_a_dismissal_expels_all_connections_here_and_returns_them(roster: Roster) -> None:
    first, second, upgrade = opened(roster, "c1", "t1"), opened(roster, "c2", "t2"), connecting(roster, "c3", "t3")
    assert roster.dismiss(ALICE, Cause.KICKED, START) == [first, second, upgrade]
    assert roster.of(ALICE) == [] and roster.active_count(ALICE) == 0
    told = roster.contribution(ALICE, START)
    assert [(e.connection, e.cause) for e in told.endings] == [(first.id, Cause.KICKED), (second.id, Cause.KICKED)]


def test_a_dismissal_is_told_once_for_each_connection(roster: Roster) -> None:
    c = opened(roster)
    assert roster.dismiss(ALICE, Cause.KICKED, START) == [c]
    assert [e.connection for e in roster.contribution(ALICE, START).endings] == [c.id]


def test_the_dismissal_of_somebody_without_a_connection_is_told_all_the_same(roster: Roster) -> None:
    assert roster.dismiss(ALICE, Cause.REVOKED, START) == []
    (told,) = roster.take_contributions(START)
    (ending,) = told.endings
    assert (ending.connection, ending.session, ending.tab, ending.last) == ("", "", "", None)
    assert (ending.cause, ending.window, ending.code, ending.ago) == (Cause.REVOKED, 0.0, 0, 0.0)
    roster.acknowledge([told])
    assert roster.users() == []


def test_the_end_of_an_upgrade_is_not_an_ending(roster: Roster) -> None:
    for n, end in enumerate((roster.refuse, roster.lost)):
        end(connecting(roster, f"c{n}", in_flight=True), START)
    assert roster.contribution(ALICE, START).endings == ()
