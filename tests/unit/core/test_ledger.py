"""The ledger: nodes and leases, what is kept and what is forgotten, what comes out."""

from __future__ import annotations

import msgspec
import pytest

from stillhere.core.clock import ClockLimits
from stillhere.core.events import Change
from stillhere.core.leases import Answer, LedgerState, Limits
from stillhere.core.ledger import Ledger
from stillhere.core.record import NOBODY, ConnectionSummary, Contribution, Ending, Record
from stillhere.core.words import (
    Cause,
    ConnectionId,
    Incarnation,
    Phase,
    ReadyState,
    RoomName,
    SessionId,
    Status,
    TabId,
    UserId,
)
from tests.unit.core.world import ALICE, LEASE, START, World

N1, N2 = Incarnation("n1"), Incarnation("n2")


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.hello(START, "run-1")
    return ledger


def connected() -> Contribution:
    """What a node tells of a user with one connection."""
    c = ConnectionSummary(ConnectionId("c1"), SessionId("s1"), TabId("t1"), ReadyState.OPEN, START)
    return Contribution(ALICE, 1, (c,))


# -- epochs ---------------------------------------------------------------------------------------------------------


def test_an_epoch_belongs_to_a_process_of_the_store(ledger: Ledger) -> None:
    first = ledger.state.epoch
    ledger.hello(START, "run-1", known_epoch=first + 5000, nonce=7)
    assert ledger.state.epoch == first
    ledger.hello(START, "run-2", nonce=7)
    assert ledger.state.epoch > first
    assert ledger.state.epoch % 1024 == 7


def test_an_epoch_is_newer_than_all_that_a_node_has_seen_whatever_the_clock_says() -> None:
    ledger = Ledger()
    ledger.hello(1.0, "run-1", known_epoch=10**15, nonce=1023)
    assert ledger.state.epoch > 10**15
    later = Ledger()
    later.hello(1790000000.0, "run-1")
    assert later.state.epoch == (round(1790000000.0 * 1000) + 1) * 1024


def test_a_recovering_store_expires_nothing_until_nodes_have_told_what_they_carry() -> None:
    ledger = Ledger(Limits(clock=ClockLimits(recovery_hold=20.0)))
    ledger.hello(START, "run-1", known_epoch=1)
    ledger.join(START, N1, 1, LEASE)
    assert ledger.sweep(START + 1) is Answer.HOLD
    assert ledger.next_deadline() == 19.0
    for second in range(2, 20):
        assert ledger.sweep(START + second) is Answer.HOLD
    assert N1 in ledger.state.leases, "the lease ran out meanwhile, and is not judged"
    assert ledger.sweep(START + 20) is Answer.OK
    assert N1 not in ledger.state.leases


# -- leases and the fence -------------------------------------------------------------------------------------------


def test_a_node_without_a_lease_changes_nothing(ledger: Ledger) -> None:
    assert ledger.put(START, N1, 1, [connected()]) is Answer.FENCED
    assert ledger.beat(START, N1, 1, LEASE) is Answer.FENCED
    assert ledger.records == {} and ledger.state.leases == {}


def test_requests_of_an_older_connection_to_the_store_change_nothing(ledger: Ledger) -> None:
    ledger.join(START, N1, 2, LEASE)
    assert ledger.put(START, N1, 1, [connected()]) is Answer.FENCED
    assert ledger.records == {}
    assert ledger.put(START, N1, 2, [connected()]) is Answer.OK
    assert ledger.shown(ALICE).status is Status.ONLINE
    assert ledger.put(START, N1, 3, ()) is Answer.OK


def test_a_beat_renews_the_lease_and_a_put_does_not(ledger: Ledger) -> None:
    ledger.join(START, N1, 1, 4.0)
    assert ledger.beat(START + 2, N1, 1, 4.0) is Answer.OK
    assert ledger.next_deadline() == 4.0
    ledger.put(START + 3, N1, 1, ())
    assert ledger.next_deadline() == 3.0
    ledger.sweep(START + 5.875)
    assert N1 in ledger.state.leases
    ledger.sweep(START + 6)
    assert ledger.state.leases == {} and ledger.state.dead == {N1: Cause.NODE_LOST}
    assert ledger.beat(START + 6, N1, 1, 4.0) is Answer.FENCED


def test_an_incarnation_that_was_declared_dead_cannot_join(ledger: Ledger) -> None:
    ledger.join(START, N1, 1, LEASE)
    ledger.retire(START, N1)
    assert ledger.join(START, N1, 2, LEASE) is Answer.FENCED
    assert ledger.join(START, N2, 1, LEASE) is Answer.OK
    assert ledger.state.channels == {N2: 1}


def test_an_incarnation_is_reaped_in_slices_and_then_done_with() -> None:
    world = World(nodes=("n1", "n2"))
    for n in range(5):
        world.connect(f"u{n}")
    world.connect("v", node="n2")
    ledger = world.ledger
    ledger.retire(world.now, N1)
    world.kill("n1")
    slices = [ledger.reap(world.now, N1, 30.0, limit=2) for _ in range(4)]
    assert slices == [2, 2, 1, 0]
    assert [world.phase(f"u{n}") for n in range(5)] == [Phase.HELD] * 5
    assert world.phase("v") is Phase.ONLINE
    assert N1 not in ledger.state.dead and N1 not in ledger.state.heard and N1 not in ledger.holders


def test_only_what_is_dead_can_be_reaped() -> None:
    world = World()
    world.connect()
    assert world.ledger.reap(world.now, N1, 30.0) == 0
    assert world.phase() is Phase.ONLINE


def test_the_window_of_a_reaped_user_has_the_cause_that_the_node_was_retired_for() -> None:
    world = World()
    world.connect()
    world.advance(2)
    world.ledger.put(world.now, N1, 1, ())  # heard
    world.advance(1)
    world.ledger.retire(world.now, N1, Cause.NODE_DRAIN)
    world.kill("n1")
    world.ledger.reap(world.now, N1, 45.0)
    world.hear()
    grace = world.grace()
    assert grace is not None and (grace.cause, grace.window, grace.started_at) == (Cause.NODE_DRAIN, 45.0, START + 2)
    assert world.deadline() == START + 3 + 45


def test_reaping_takes_the_time_of_now_where_a_node_was_never_heard(ledger: Ledger) -> None:
    world = World()
    world.connect()
    world.ledger.state.heard.clear()
    world.advance(1)
    world.ledger.retire(world.now, N1)
    world.kill("n1")
    world.ledger.reap(world.now, N1, 30.0)
    world.hear()
    assert world.record().last_seen_at == START + 1


# -- sweeping -------------------------------------------------------------------------------------------------------


def test_a_sweep_takes_as_many_users_as_it_may_and_says_that_there_is_more() -> None:
    world = World()
    for n in range(5):
        world.end(world.connect(f"u{n}"))
    assert world.ledger.windows_pending == 5
    world.now += 2
    world.tick()
    for _ in range(3):
        world.now += 2
        assert world.ledger.sweep(world.now, limit=2) is Answer.OK
    assert world.ledger.windows_pending == 3
    assert world.ledger.next_deadline() == 0.0
    world.ledger.sweep(world.now, limit=2)
    world.ledger.sweep(world.now, limit=2)
    world.hear()
    assert [world.status(f"u{n}") for n in range(5)] == [Status.OFFLINE] * 5


def test_nothing_due_means_nothing_to_wake_up_for(ledger: Ledger) -> None:
    assert ledger.next_deadline() is None
    ledger.join(START, N1, 1, LEASE)
    assert ledger.next_deadline() == LEASE


def test_next_deadline_is_the_earliest_window_or_lease() -> None:
    world = World()
    world.end(world.connect(), 1000)
    assert world.ledger.next_deadline() == 3.0
    world.end(world.connect("bob"), 1001)
    world.bye(world.connect())
    assert world.ledger.next_deadline() == 8.0


# -- what is kept ---------------------------------------------------------------------------------------------------


def test_a_million_users_are_known_for_a_week_and_an_offline_may_prove_false_for_half_a_minute() -> None:
    limits = Limits()
    assert (limits.known_users, limits.remember, limits.false_offline_horizon) == (1_000_000, 604_800.0, 30.0)


def test_users_who_have_been_offline_for_long_are_forgotten_and_their_store_is_told() -> None:
    world = World(limits=Limits(remember=60.0))
    world.bye(world.connect())
    world.connect("bob")
    world.advance(59)
    world.ledger.take_dirty()
    assert ALICE in world.ledger.records
    world.advance(1)
    world.watcher.users.pop(ALICE)
    assert ALICE not in world.ledger.records
    assert (ALICE, None) in world.ledger.take_dirty()
    assert world.shown().version == 0


def test_of_too_many_known_users_those_go_first_who_left_first() -> None:
    world = World(limits=Limits(known_users=2))
    for name in ("a", "b", "c"):
        world.bye(world.connect(name))
        world.advance(0.125)
    world.connect("d")
    world.ledger.sweep(world.now)
    assert set(world.ledger.records) == {"b", "c", "d"}


def test_who_comes_back_is_not_forgotten() -> None:
    world = World(limits=Limits(remember=60.0))
    world.bye(world.connect())
    world.advance(30)
    c = world.connect()
    world.advance(60)
    world.bye(c)
    world.advance(59)
    assert ALICE in world.ledger.records


def test_a_user_with_an_upgrade_in_flight_is_not_forgotten() -> None:
    world = World(limits=Limits(remember=2.0))
    world.bye(world.connect())
    world.advance(1)
    upgrade = world.begin()
    world.advance(3)
    assert ALICE in world.ledger.records
    world.refuse(upgrade)
    assert world.ledger.users_present == 0


def test_an_upgrade_that_failed_does_not_prolong_how_long_a_user_is_known() -> None:
    world = World(limits=Limits(remember=60.0))
    world.bye(world.connect())
    world.advance(50)
    world.refuse(world.begin())
    world.advance(10)
    world.watcher.users.pop(ALICE)
    world.ledger.sweep(world.now)
    assert ALICE not in world.ledger.records


def _at_100() -> Ledger:
    ledger = Ledger(Limits(remember=60.0))
    ledger.hello(0.0, "run")
    for now in range(101):
        ledger.sweep(float(now))
    for incarnation in (N1, N2):
        ledger.join(100.0, incarnation, 1, 1000.0)
    return ledger


def _told(ledger: Ledger, now: float, by: Incarnation, *ends: Ending, active: ConnectionSummary | None = None) -> None:
    contribution = Contribution(ALICE, int(now), () if active is None else (active,), ends)
    assert ledger.put(now, by, 1, [contribution]) is Answer.OK


def _of(tab: str) -> ConnectionSummary:
    return ConnectionSummary(ConnectionId(f"c {tab}"), SessionId("s"), TabId(tab), ReadyState.OPEN, 98.0)


def _end(c: ConnectionSummary, cause: Cause, window: float, ago: float) -> Ending:
    return Ending(c.id, c.session, c.tab, cause, window, ago, last=c)


_KICK = Ending(ConnectionId(""), SessionId(""), TabId(""), Cause.KICKED, 0.0, 10.0)


def test_a_kick_of_somebody_unknown_is_remembered_for_the_ends_that_are_told_after_it() -> None:
    ledger = _at_100()
    _told(ledger, 100.0, N1, _KICK)
    assert ledger.shown(ALICE) == NOBODY and ledger.users_present == 0
    _told(ledger, 101.0, N2, _end(_of("t1"), Cause.ABNORMAL, 15.0, 12.0), active=_of("t2"))
    assert ledger.records[ALICE].holds == {}, "it ended before the kick"
    _told(ledger, 102.0, N2, _end(_of("t2"), Cause.CLIENT_CLOSE, 0.0, 0.0))
    assert ledger.shown(ALICE).status is Status.OFFLINE


def test_a_kick_of_somebody_unknown_is_forgotten_in_time_like_everybody_who_is_offline() -> None:
    ledger = _at_100()
    _told(ledger, 100.0, N1, _KICK)
    again = Ledger(ledger.limits, msgspec.convert(msgspec.to_builtins(ledger.state), LedgerState))
    again.load(ledger.records.values())
    for one in (ledger, again):
        for now in range(101, 150):
            one.sweep(float(now))
        assert list(one.records) == [ALICE], "59 s after it"
        one.sweep(150.0)
        assert not one.records and one.users_present == 0


def test_a_bye_of_somebody_unknown_leaves_no_trace() -> None:
    ledger = _at_100()
    _told(ledger, 100.0, N1, _end(_of("t1"), Cause.BYE, 0.0, 0.0))
    assert ledger.records == {} and (ALICE, None) in ledger.take_dirty()


def test_present_are_those_online_held_or_carried() -> None:
    world = World()
    world.connect("a")
    world.end(world.connect("b"))
    world.begin("c")
    world.bye(world.connect("d"))
    assert world.ledger.users_present == 3


def test_what_changed_is_taken_once() -> None:
    world = World()
    world.connect()
    ((user, record),) = world.ledger.take_dirty()
    assert user == ALICE and record is world.record()
    assert world.ledger.take_dirty() == []
    world.nodes["n1"].roster.mark([ALICE])
    world.turn()
    assert world.ledger.take_dirty() == [], "a repetition is no change"


# -- restart --------------------------------------------------------------------------------------------------------


def reloaded(world: World) -> Ledger:
    """What a store writes and reads again."""
    old = world.ledger
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(old.state), type=LedgerState)
    records = msgspec.msgpack.decode(msgspec.msgpack.encode(list(old.records.values())), type=list[Record])
    new = Ledger(old.limits, state)
    new.load(records)
    return new


def test_a_ledger_goes_on_from_what_was_stored() -> None:
    world = World()
    c = world.connect("a")
    world.join(c, "r", {"seat": 1})
    world.end(world.connect("b"), 1001)
    world.begin("c")
    world.bye(world.connect("d"))
    before = world.ledger
    world.ledger = reloaded(world)
    assert world.ledger.records == before.records
    world.check()
    assert world.ledger.next_deadline() == before.next_deadline()
    assert world.ledger.users_present == before.users_present == 3
    assert world.members("r") == {"a"}
    world.advance(8)
    assert world.status("b") is Status.OFFLINE
    assert world.status("a") is Status.ONLINE


def test_after_a_restart_those_are_forgotten_first_who_left_first() -> None:
    world = World(limits=Limits(known_users=1))
    for name in ("z", "a"):
        world.bye(world.connect(name))
        world.advance(0.125)
    world.ledger = reloaded(world)
    world.ledger.sweep(world.now)
    assert set(world.ledger.records) == {"a"}


def test_a_restart_lengthens_windows_and_shortens_none() -> None:
    world = World()
    world.end(world.connect("short", tab="t1"), 1000)
    world.lost(world.connect("short", tab="t2"))
    world.lost(world.connect("long"))
    world.connect("online")
    world.end(world.connect("covered", tab="t1"), 1000)
    world.connect("covered", tab="t2")
    world.ledger.hold_everyone(world.now, Cause.NODE_DRAIN, 10.0)
    world.hear()
    world.check()
    assert world.deadline("short") == START + 15
    holds = world.record("short").holds
    assert {tab: (h.cause, h.window, h.deadline) for tab, h in holds.items()} == {
        "t1": (Cause.NODE_DRAIN, 10.0, 10.0),
        "t2": (Cause.ABNORMAL, 15.0, 15.0),
    }
    assert world.grace("online") is None and world.grace("covered") is None
    assert world.record("covered").holds["t1"].window == 10.0  # type: ignore[index]
    world.advance(16)
    assert [world.changes(u) for u in ("short", "long")] == [[Change.ONLINE, Change.OFFLINE]] * 2
    assert world.shown("short").last_seen_at == START


# -- inheritance is told to the node --------------------------------------------------------------------------------


def test_a_connection_that_took_nothing_over_is_not_reported() -> None:
    world = World()
    world.connect()
    world.ledger.take_inherited()
    node = world.nodes["n1"]
    node.delayed = True
    world.connect(tab="t2")
    told = node.roster.take_contributions(world.now)
    world.ledger.put(world.now, node.incarnation, 1, told)
    assert world.ledger.take_inherited() == []


def test_the_end_of_a_connection_of_which_nothing_is_known_opens_no_window() -> None:
    world = World()
    world.connect()
    roster = world.nodes["n1"].roster
    told = roster.contribution(ALICE, world.now)
    nobody = Ending(ConnectionId("?"), SessionId("s1"), TabId("t9"), Cause.ABNORMAL, 15.0, 0.0)
    told = msgspec.structs.replace(told, revision=told.revision + 1, endings=(nobody,))
    assert world.ledger.put(world.now, N1, 1, [told]) is Answer.OK
    assert world.record().holds == {} and world.record().last_seen_at is None


def test_rooms_know_their_members_and_empty_rooms_are_gone() -> None:
    world = World()
    a, b = world.connect("a"), world.connect("b")
    world.join(a, "r")
    world.join(b, "r")
    assert world.members("r") == {"a", "b"}
    world.bye(a)
    assert world.members("r") == {"b"}
    world.bye(b)
    assert RoomName("r") not in world.ledger.rooms
    assert UserId("a") in world.ledger.records
