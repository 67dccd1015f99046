"""The windows of a record, and what is reported of them."""

from __future__ import annotations

from itertools import product

import pytest

from stillhere.core.events import Change, GraceCancelled, GraceExpired, GraceStarted, Returned
from stillhere.core.record import Record, Share
from stillhere.core.windows import PHASES, Situation, situation
from stillhere.core.words import Cause, Incarnation, Phase, SessionId, Status, TabId
from tests.unit.core.world import ALICE, START, World


def returns(world: World) -> list[Returned]:
    return [e for e in world.events if isinstance(e, Returned)]


def test_the_table_of_phases_is_complete() -> None:
    assert set(PHASES) == set(product(Phase, Situation))


def test_a_connection_leads_online_from_everywhere_and_nothing_left_leads_offline() -> None:
    assert {PHASES[phase, Situation.OPENED] for phase in Phase} == {Phase.ONLINE}
    assert {PHASES[phase, Situation.NOTHING] for phase in Phase} == {Phase.OFFLINE}


def test_nobody_is_held_who_was_not_online() -> None:
    assert PHASES[Phase.OFFLINE, Situation.PENDING] is Phase.OFFLINE
    assert PHASES[Phase.OFFLINE, Situation.IN_FLIGHT] is Phase.OFFLINE


def test_a_record_without_anything_is_in_the_situation_of_nothing() -> None:
    assert situation(Record(ALICE)) is Situation.NOTHING
    assert situation(Record(ALICE, shares={Incarnation("n"): Share(1, ())})) is Situation.NOTHING


def test_an_active_connection_outweighs_windows_and_upgrades() -> None:
    world = World()
    upgrade = world.begin(tab="t1")
    assert situation(world.record()) is Situation.IN_FLIGHT
    world.end(world.connect(tab="t2"))
    assert situation(world.record()) is Situation.PENDING
    world.connect(tab="t3")
    assert situation(world.record()) is Situation.OPENED
    world.refuse(upgrade)


def test_last_seen_is_the_end_of_the_last_connection_whatever_the_windows() -> None:
    world = World()
    first, second = world.connect(tab="t1"), world.connect(tab="t2")
    world.lost(first)
    world.advance(2)
    world.end(second, 1000)
    world.advance(60)
    assert world.shown().last_seen_at == START + 2
    assert world.shown().changed_at == START + 15


def test_the_news_of_an_earlier_end_does_not_set_last_seen_back() -> None:
    world = World(nodes=("n1", "n2"))
    first, second = world.connect(tab="t1", node="n1"), world.connect(tab="t2", node="n2")
    world.nodes["n1"].delayed = True
    world.end(first)
    world.advance(1)
    world.end(second)
    world.nodes["n1"].delayed = False
    world.turn()
    world.advance(8)
    assert world.shown().last_seen_at == START + 1


def test_a_superseded_connection_is_no_time_of_being_last_seen() -> None:
    world = World()
    world.connect()
    world.connect()
    assert world.record().last_seen_at is None


def test_a_superseded_connection_does_not_end_the_window_of_its_tab() -> None:
    world = World()
    world.lost(world.connect())
    world.connect()
    world.advance(1)
    world.end(world.connect(), 1000)
    assert world.deadline() == START + 15


def test_the_window_that_is_reported_is_the_longest_and_is_reported_once() -> None:
    world = World()
    first, second = world.connect(tab="t1"), world.connect(tab="t2")
    world.lost(first)
    world.advance(1)
    world.end(second, 1000)
    assert world.graces() == [GraceStarted(ALICE, START + 1, Cause.ABNORMAL, 15.0, START)]
    world.advance(20)
    assert world.graces()[1:] == [GraceExpired(ALICE, START + 15, Cause.ABNORMAL, 14.0)]
    assert world.watcher.seen[-1].cause == Cause.ABNORMAL


def test_a_window_that_ends_while_another_is_pending_shows_nothing() -> None:
    world = World()
    world.end(world.connect(tab="t1"), 1000)
    world.end(world.connect(tab="t2"), 1001)
    world.advance(3)
    assert world.phase() is Phase.HELD
    assert world.grace() is not None and set(world.record().holds) == {"t2"}
    assert world.changes() == [Change.ONLINE]


def test_a_user_has_at_most_64_windows_and_the_shortest_goes_first() -> None:
    world = World()
    world.end(world.connect(tab="short"), 1000)
    for n in range(64):
        world.end(world.connect(tab=f"t{n}"))
    holds = world.record().holds
    assert len(holds) == 64 and "short" not in holds


def test_a_bye_that_ends_the_window_is_named_as_what_ended_it() -> None:
    world = World()
    c = world.connect(tab="t1")
    world.end(world.connect(tab="t2"))
    world.begin(tab="t3")
    world.bye(c)
    assert world.phase() is Phase.HELD
    world.kick()
    cancelled = world.graces()[-1]
    assert isinstance(cancelled, GraceCancelled) and cancelled.by == "kicked"
    assert world.watcher.seen[-1].cause == "kicked"


def test_the_cause_of_a_return_in_time_is_the_end_that_it_makes_good() -> None:
    world = World()
    world.end(world.connect())
    world.advance(2.5)
    world.connect()
    assert returns(world) == [
        Returned(ALICE, START + 2.5, TabId("t1"), SessionId("s1"), Cause.GOING_AWAY, 2.5, False, 8.0)
    ]
    cancelled = world.graces()[-1]
    assert cancelled == GraceCancelled(ALICE, START + 2.5, Cause.GOING_AWAY, 2.5)


@pytest.mark.parametrize(("after", "false"), [(8.0, True), (37.875, True), (38.0, True)])
def test_a_return_within_the_horizon_after_offline_makes_it_a_false_one(after: float, false: bool) -> None:
    world = World()
    world.end(world.connect())
    world.advance(after)
    assert world.status() is Status.OFFLINE
    world.connect()
    assert [(r.gap, r.false_offline) for r in returns(world)] == [(after, false)]


def test_a_return_in_time_is_no_false_offline_although_there_was_one_a_moment_ago() -> None:
    world = World()
    world.end(world.connect(), 1000)
    world.advance(4)
    world.end(world.connect(), 1000)
    world.advance(1)
    world.connect()
    assert [r.false_offline for r in returns(world)] == [True, False]


def test_a_return_after_the_horizon_is_a_new_visit() -> None:
    world = World()
    world.end(world.connect())
    world.advance(38.125)
    world.connect()
    assert returns(world) == []


def test_a_return_of_the_same_session_in_another_tab_counts() -> None:
    world = World()
    world.end(world.connect(tab="t1", session="s1"))
    world.advance(9)
    world.connect(tab="t2", session="s2")
    assert returns(world) == []
    world.connect(tab="t3", session="s1")
    assert [(r.tab, r.session, r.false_offline) for r in returns(world)] == [("t1", "s1", False)]


def test_the_tab_that_returns_is_preferred_to_others_of_its_session() -> None:
    world = World()
    first, second = world.connect(tab="t1", session="s1"), world.connect(tab="t2", session="s1")
    world.end(first)
    world.lost(second)
    world.connect(tab="t1", session="s1")
    assert [r.cause for r in returns(world)] == [Cause.GOING_AWAY]
    world.connect(tab="t3", session="s1")
    assert [r.cause for r in returns(world)] == [Cause.GOING_AWAY, Cause.ABNORMAL]
    world.connect(tab="t4", session="s1")
    assert len(returns(world)) == 2, "each end is made good once"


def test_of_several_ends_of_a_session_its_next_tab_makes_good_the_last() -> None:
    world = World()
    first, second = world.connect(tab="t1", session="s1"), world.connect(tab="t2", session="s1")
    world.end(first)
    world.lost(second)
    world.connect(tab="t3", session="s1")
    assert [(r.tab, r.cause) for r in returns(world)] == [("t2", Cause.ABNORMAL)]


@pytest.mark.parametrize("kick", [False, True])
def test_who_logs_in_again_after_a_departure_is_no_false_offline(kick: bool) -> None:
    world = World()
    world.end(world.connect(tab="t1", session="s1"))
    if kick:
        world.kick()
    else:
        world.bye(world.connect(tab="t2", session="s1"))
    told = len(returns(world))
    world.connect(tab="t1", session="s2")
    assert len(returns(world)) == told


def test_a_bye_of_one_session_keeps_what_another_left() -> None:
    world = World()
    world.end(world.connect(tab="t1", session="s1"))
    world.bye(world.connect(tab="t2", session="s2"))
    world.connect(tab="t1", session="s1")
    assert [r.cause for r in returns(world)] == [Cause.GOING_AWAY]


def test_only_the_last_sixteen_ends_are_remembered_and_one_of_each_tab() -> None:
    world = World()
    for n in range(20):
        world.end(world.connect(tab=f"t{n}", session=f"s{n}"))
        world.end(world.connect(tab=f"t{n}", session=f"s{n}"))
    gone = world.record().gone
    assert [g.tab for g in gone] == [f"t{n}" for n in range(4, 20)]


def test_a_window_of_half_a_second_is_reported_like_any_other() -> None:
    world = World({Cause.GOING_AWAY: 0.5})
    world.end(world.connect())
    world.advance(0.5)
    assert world.graces()[1:] == [GraceExpired(ALICE, START + 0.5, Cause.GOING_AWAY, 0.5)]


def test_an_end_that_is_told_after_its_window_is_offline_at_once() -> None:
    world = World()
    c = world.connect()
    world.nodes["n1"].delayed = True
    world.end(c, 1000)
    world.advance(3.125)
    world.nodes["n1"].delayed = False
    world.turn()
    assert world.phase() is Phase.OFFLINE
    assert world.shown().last_seen_at == START


def test_a_window_of_zero_while_an_upgrade_is_in_flight_is_held_for_its_outcome_only() -> None:
    world = World({Cause.GOING_AWAY: 0.0})
    c = world.connect()
    upgrade = world.begin()
    world.end(c)
    assert world.phase() is Phase.HELD
    grace = world.grace()
    assert grace is not None and (grace.cause, grace.window, grace.started_at) == (Cause.GOING_AWAY, 0.0, START)
    world.advance(1)
    world.refuse(upgrade)
    assert world.status() is Status.OFFLINE
    assert world.graces() == []
    assert world.watcher.seen[-1].cause == Cause.GOING_AWAY
