"""The promises of the design, one by one. ``World`` checks all of them after every step of every test besides."""

from __future__ import annotations

import msgspec
import pytest

from stillhere.core.connection import Connection
from stillhere.core.events import Change, GraceCancelled, GraceExpired, Returned
from stillhere.core.leases import Answer, Limits
from stillhere.core.ledger import Ledger
from stillhere.core.record import ConnectionSummary, Contribution, Ending
from stillhere.core.roster import Order, Roster
from stillhere.core.words import (
    Availability,
    Cause,
    ConnectionId,
    Incarnation,
    Phase,
    ReadyState,
    SessionId,
    Status,
    TabId,
)
from tests.unit.core.world import ALICE, LEASE, START, World

LATE_NEWS = int(Limits().late_news)
ONLINE, OFFLINE = Change.ONLINE, Change.OFFLINE


# -- 6. A late or repeated close neither extends nor restarts a window ----------------------------------------------


def test_6_a_late_close_does_not_extend_the_grace_window() -> None:
    world = World()
    c = world.connect()
    world.end(c)
    before = world.grace()
    world.advance(2)
    world.close(c, 1000)
    world.lost(c)
    world.lost(c, Cause.HEARTBEAT_LOST)
    world.server_close(c)
    world.refuse(c)
    world.bye(c)
    assert world.grace() == before
    world.advance(6)
    assert world.changes() == [ONLINE, OFFLINE]


def test_6_a_repeated_contribution_does_not_move_the_window() -> None:
    world = World()
    c = world.connect()
    world.nodes["n1"].deaf = True
    world.end(c)
    before = world.grace()
    for _ in range(5):
        world.advance(1)
        assert world.grace() == before
    world.advance(3)
    assert world.changes() == [ONLINE, OFFLINE]


def test_6_a_contribution_told_again_word_for_word_does_not_restart_the_window() -> None:
    world = World()
    node = world.nodes["n1"]
    c = world.connect()
    node.delayed = True
    world.end(c)
    told = node.roster.take_contributions(world.now)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=list[Contribution])
    assert world.ledger.put(world.now, node.incarnation, 1, told) is Answer.OK
    world.advance(3)
    assert world.ledger.put(world.now, node.incarnation, 1, again) is Answer.OK
    assert world.deadline() == START + 8


def test_6_a_repeated_contribution_after_the_window_does_not_restart_it() -> None:
    world = World()
    c = world.connect()
    world.nodes["n1"].deaf = True
    world.end(c)
    world.advance(20)
    assert world.changes() == [ONLINE, OFFLINE]
    assert world.phase() is Phase.OFFLINE


def test_6_a_window_is_measured_from_the_end_and_not_from_the_news_of_it() -> None:
    world = World()
    c = world.connect()
    world.nodes["n1"].delayed = True
    world.end(c)
    world.advance(3)
    world.nodes["n1"].delayed = False
    world.turn()
    assert world.deadline() == START + 8


def test_6_a_short_window_does_not_shorten_a_longer_one_that_is_pending() -> None:
    world = World()
    world.lost(world.connect(tab="t1"))
    world.advance(1)
    world.end(world.connect(tab="t1"), 1000)
    assert world.deadline() == START + 15


def _tell(ledger: Ledger, now: float, revision: int, *ends: Ending, active: tuple[ConnectionSummary, ...] = ()) -> None:
    told = [Contribution(ALICE, revision, active, ends)]
    assert ledger.put(now, Incarnation("n1#1"), 1, told) is Answer.OK


def _connection(id: str, tab: str) -> ConnectionSummary:
    return ConnectionSummary(ConnectionId(id), SessionId("s"), TabId(tab), ReadyState.OPEN, 0.0)


def _ledger(*active: ConnectionSummary) -> Ledger:
    ledger = Ledger(Limits())
    ledger.hello(0.0, "run")
    for now in range(101):
        ledger.sweep(float(now))
    ledger.join(100.0, Incarnation("n1#1"), 1, 10_000.0, "process")
    _tell(ledger, 100.0, 1, active=active)
    return ledger


def _end(id: str, tab: str, cause: Cause, window: float, ago: float) -> Ending:
    return Ending(ConnectionId(id), SessionId("s"), TabId(tab), cause, window, ago, last=_connection(id, tab))


def test_6_an_end_that_is_told_again_after_a_later_one_of_its_tab_moves_no_window() -> None:
    first = _end("c1", "t1", Cause.GOING_AWAY, 8.0, 0.0)
    ledger = _ledger(_connection("c1", "t1"), _connection("c2", "t1"))
    _tell(ledger, 100.0, 2, first, _end("c2", "t1", Cause.CLIENT_CLOSE, 1.0, 0.0))
    before = ledger.records[ALICE].holds[TabId("t1")]
    # the reply was lost, and the request was reckoned before it waited two seconds on a line that stood still
    _tell(ledger, 102.0, 3, first, _end("c2", "t1", Cause.CLIENT_CLOSE, 1.0, 0.0))
    assert ledger.records[ALICE].holds[TabId("t1")] == before
    assert before.deadline == before.ended + 8.0


@pytest.mark.parametrize(("apart", "kept"), [(1, 8), (30, 4), (LATE_NEWS, 1)])
def test_6_what_late_news_must_not_do_again_is_remembered_for_as_long_as_it_may_be_late(apart: int, kept: int) -> None:
    """And no longer: whoever often says goodbye would be remembered with all of that, for as long as they are known."""
    ledger = _ledger(_connection("c0", "t"))
    for n in range(20):
        now = 101.0 + n * apart
        ends = (
            _end(f"c{n}", "t", Cause.GOING_AWAY, 8.0, 0.0),
            _end(f"d{n}", "t", Cause.ABNORMAL, 8.0, 0.0),  # takes the window over
            _end(f"e{n}", "t", Cause.BYE, 0.0, 0.0),
        )
        _tell(ledger, now, n + 2, *ends, active=(_connection(f"c{n + 1}", "t"),))
        for second in range(1, apart + 1):
            ledger.sweep(now + second)
    record = ledger.records[ALICE]
    assert len(record.departures) == kept
    assert len(record.ended) == (8 if apart < LATE_NEWS else 2)


def test_6_an_end_before_a_goodbye_opens_no_window_when_it_is_told_again() -> None:
    first = _end("c1", "t1", Cause.GOING_AWAY, 8.0, 0.0)
    ledger = _ledger(_connection("c1", "t1"), _connection("c2", "t2"))
    _tell(ledger, 100.0, 2, first, active=(_connection("c2", "t2"),))
    _tell(ledger, 101.0, 3, _end("c2", "t2", Cause.BYE, 0.0, 0.0))
    assert ledger.records[ALICE].phase is Phase.OFFLINE
    _tell(ledger, 102.0, 4, first, active=(_connection("c3", "t3"),))
    assert ledger.records[ALICE].holds == {}
    _tell(ledger, 103.0, 5, first, _end("c3", "t3", Cause.BYE, 0.0, 0.0))
    assert ledger.records[ALICE].phase is Phase.OFFLINE


def test_6_what_a_lost_node_tells_itself_of_an_end_counts_though_a_later_end_took_over_its_window() -> None:
    ledger = _ledger(_connection("c1", "t1"))
    other = Incarnation("n2#1")
    ledger.join(100.0, other, 1, 1000.0, "another process")
    ledger.retire(100.0, Incarnation("n1#1"))
    ledger.reap(100.0, Incarnation("n1#1"), 5.0)
    told = Contribution(ALICE, 1, (), (_end("c2", "t1", Cause.CLIENT_CLOSE, 1.0, 0.0),))
    assert ledger.put(101.0, other, 1, [told]) is Answer.OK
    ledger.join(102.0, Incarnation("n1#2"), 1, 10_000.0, "process")
    late = Contribution(ALICE, 1, (), (_end("c1", "t1", Cause.NODE_DRAIN, 30.0, 2.0),))
    assert ledger.put(102.0, Incarnation("n1#2"), 1, [late]) is Answer.OK
    hold = ledger.records[ALICE].holds[TabId("t1")]
    assert (hold.cause, hold.deadline - hold.ended) == (Cause.NODE_DRAIN, 30.0 - 1.0), "c2 ended a second after c1"


def test_6_what_a_lost_node_tells_itself_counts_though_its_connection_took_over_a_longer_window() -> None:
    ledger = _ledger(_connection("c1", "t1"))
    _tell(ledger, 100.0, 2, _end("c1", "t1", Cause.NODE_DRAIN, 45.0, 0.0), active=(_connection("c2", "t1"),))
    ledger.retire(101.0, Incarnation("n1#1"))
    ledger.reap(101.0, Incarnation("n1#1"), 30.0)
    hold = ledger.records[ALICE].holds[TabId("t1")]
    assert (hold.connection.id, hold.cause, hold.lost) == ("c2", Cause.NODE_DRAIN, True)
    ledger.join(102.0, Incarnation("n1#2"), 1, 10_000.0, "process")
    late = _end("c2", "t1", Cause.NODE_DRAIN, 45.0, 1.5)
    assert ledger.put(102.0, Incarnation("n1#2"), 1, [Contribution(ALICE, 1, (), (late,))]) is Answer.OK
    told = ledger.records[ALICE].holds[TabId("t1")]
    assert (told.deadline, told.lost) == (hold.deadline + 0.5, False), "c2 ended half a second after c1"
    assert ledger.put(103.0, Incarnation("n1#2"), 1, [Contribution(ALICE, 2, (), (late,))]) is Answer.OK
    assert ledger.records[ALICE].holds[TabId("t1")] == told, "told again it is no news"


# -- 7. OFFLINE waits for an upgrade in flight ----------------------------------------------------------------------


def test_7_offline_waits_for_an_upgrade_in_flight_and_comes_when_it_fails() -> None:
    world = World()
    world.end(world.connect(), 1000)
    world.advance(2)
    upgrade = world.begin()
    world.advance(3)
    assert world.phase() is Phase.HELD
    world.refuse(upgrade)
    assert world.status() is Status.OFFLINE
    assert world.shown().last_seen_at == START, "last seen is when the connection ended"
    assert world.graces()[-1] == GraceExpired(ALICE, START + 5, Cause.CLIENT_CLOSE, 5.0)


def test_7_offline_never_comes_when_the_upgrade_in_flight_is_granted() -> None:
    world = World()
    world.end(world.connect(), 1000)
    world.advance(2)
    upgrade = world.begin()
    world.advance(4)
    world.open(upgrade)
    assert world.changes() == [ONLINE]
    assert world.phase() is Phase.ONLINE


def test_7_an_upgrade_in_flight_holds_offline_back_for_the_handshake_timeout_at_most() -> None:
    world = World(handshake_timeout=5.0)
    world.end(world.connect(), 1000)
    world.advance(2)
    upgrade = world.begin()
    world.advance(4.875)
    assert world.status() is Status.ONLINE
    world.advance(0.125)
    assert world.status() is Status.OFFLINE
    assert world.orders == [(Order.REFUSE, upgrade.id)]
    assert upgrade.ready is ReadyState.CLOSED


def test_7_an_upgrade_in_flight_on_another_node_counts_as_well() -> None:
    world = World(nodes=("n1", "n2"))
    world.end(world.connect(node="n1"), 1000)
    world.advance(2)
    upgrade = world.begin(node="n2")
    world.advance(3)
    assert world.phase() is Phase.HELD
    world.refuse(upgrade)
    assert world.status() is Status.OFFLINE


def test_7_a_bye_while_another_upgrade_is_in_flight_waits_for_it() -> None:
    world = World()
    c = world.connect(tab="t1")
    upgrade = world.begin(tab="t2")
    world.bye(c)
    assert world.phase() is Phase.HELD
    world.refuse(upgrade)
    assert world.status() is Status.OFFLINE
    assert world.watcher.seen[-1].cause == Cause.BYE
    assert world.graces() == []


def test_7_an_upgrade_that_fails_makes_nobody_known() -> None:
    world = World()
    world.refuse(world.begin())
    assert world.changes() == []
    assert world.ledger.records == {}
    assert world.nodes["n1"].roster.users() == []


# -- 8. Every window ends -------------------------------------------------------------------------------------------


def test_8_a_window_is_cancelled_by_a_connection() -> None:
    world = World()
    world.end(world.connect())
    world.advance(0.5)
    world.connect()
    assert world.changes() == [ONLINE]
    assert world.graces()[1:] == [
        Returned(ALICE, START + 0.5, TabId("t1"), SessionId("s1"), Cause.GOING_AWAY, 0.5, False, 8.0),
        GraceCancelled(ALICE, START + 0.5, Cause.GOING_AWAY, 0.5),
    ]


def test_8_a_window_ends_although_the_node_that_opened_it_is_gone() -> None:
    world = World(nodes=("n1", "n2"))
    world.end(world.connect(node="n1"))
    world.kill("n1")
    world.advance(8)
    assert world.status() is Status.OFFLINE
    assert world.shown().last_seen_at == START


def test_8_an_upgrade_in_flight_on_a_node_that_died_holds_nobody_for_ever() -> None:
    world = World(nodes=("n1", "n2"))
    world.end(world.connect(node="n2"), 1000)
    world.begin(node="n1")
    world.kill("n1")
    world.advance(LEASE)
    assert world.status() is Status.OFFLINE


# -- 9. Versions grow, ONLINE and OFFLINE alternate -----------------------------------------------------------------


def test_9_versions_only_grow_and_online_and_offline_alternate() -> None:
    world = World()
    for _ in range(3):
        world.bye(world.connect())
    assert world.changes() == [ONLINE, OFFLINE] * 3
    versions = [t.version for t in world.watcher.seen]
    assert versions == sorted(set(versions))


def test_9_versions_go_on_growing_for_a_user_who_was_forgotten() -> None:
    world = World(limits=Limits(remember=60.0))
    world.bye(world.connect())
    forgotten = world.shown().version
    world.advance(62)
    world.connect("bob")
    world.advance(1)
    assert ALICE not in world.ledger.records
    world.watcher.users.pop(ALICE)
    world.connect()
    assert world.shown().version > forgotten


# -- 10. Nodes die, nobody flickers, nobody stays for ever ----------------------------------------------------------


def test_10_a_dead_node_flips_nobody_who_comes_back_elsewhere() -> None:
    world = World(nodes=("n1", "n2"))
    world.connect(node="n1")
    world.kill("n1")
    world.advance(LEASE + 10)
    assert world.phase() is Phase.HELD
    world.connect(node="n2")
    world.advance(120)
    assert world.changes() == [ONLINE]


def test_10_a_dead_node_keeps_nobody_beyond_lease_window_and_sweep() -> None:
    world = World(nodes=("n1", "n2"))
    world.connect(node="n1")
    world.advance(2)
    world.kill("n1")
    world.advance(LEASE + 30 + 1)
    assert world.status() is Status.OFFLINE
    assert world.shown().last_seen_at == START, "as far as anybody knows: when the node was last heard"


def test_10_a_zombie_changes_nothing() -> None:
    world = World(nodes=("n1", "n2"))
    world.connect(node="n1")
    roster = world.nodes["n1"].roster
    world.kill("n1")
    world.advance(LEASE + 31)
    before = msgspec.msgpack.encode(world.record())
    roster.mark([ALICE])
    told = roster.take_contributions(world.now)
    assert told[0].connections, "it would make her online"
    assert world.ledger.put(world.now, world.nodes["n1"].incarnation, 1, told) is Answer.FENCED
    assert msgspec.msgpack.encode(world.record()) == before
    assert world.ledger.take_events() == []


def test_10_a_pause_of_the_store_expires_nothing_before_it_was_heard_what_happened() -> None:
    world = World()
    world.end(world.connect())
    world.now += 3600  # the process was stopped
    world.tick()
    assert world.phase() is Phase.HELD
    world.connect()
    assert world.changes() == [ONLINE]


def test_10_after_the_loss_of_the_store_nodes_tell_again_and_versions_are_of_a_new_epoch() -> None:
    world = World()
    world.connect()
    world.nodes["n1"].roster.state(world.nodes["n1"].roster.of(ALICE)[0], Availability.BUSY, None)
    world.turn()
    lost = World()
    lost.now = world.now
    lost.ledger.hello(lost.now, "run-2", known_epoch=world.ledger.state.epoch)
    assert lost.ledger.state.epoch > world.ledger.state.epoch
    node = lost.nodes["n1"] = world.nodes["n1"]
    node.roster.mark(node.roster.users())
    lost.turn()
    assert lost.status() is Status.BUSY


def test_10_a_restart_flips_nobody_who_comes_back_in_its_window() -> None:
    world = World()
    world.connect(tab="t1")
    world.connect("bob")
    world.end(world.connect("bob"), 1000)
    ledger = world.ledger
    ledger.retire(world.now, world.nodes["n1"].incarnation, Cause.NODE_DRAIN)
    world.kill("n1")
    ledger.reap(world.now, world.nodes["n1"].incarnation, 3.0)
    ledger.hold_everyone(world.now, Cause.NODE_LOST, 30.0)
    world.hear()
    world.advance(29)
    assert (world.phase(), world.phase("bob")) == (Phase.HELD, Phase.HELD)
    assert world.grace() is not None and world.grace().cause is Cause.NODE_LOST  # type: ignore[union-attr]
    world.advance(1)
    assert (world.status(), world.status("bob")) == (Status.OFFLINE, Status.OFFLINE)
    assert world.shown().last_seen_at == START


# -- 11. unknown is an answer ----------------------------------------------------------------------------------------


def test_11_unknown_is_never_published_and_never_what_the_rules_decide() -> None:
    world = World()
    world.bye(world.connect())
    assert all(t.shown is None or t.shown.status is not Status.UNKNOWN for t in world.watcher.seen)
    assert world.shown("nobody").status is Status.OFFLINE
    assert world.shown("nobody").version == 0, "of whom nothing is known"


def test_11_a_ledger_that_lost_its_data_refuses_to_answer_rather_than_to_report_everybody_offline() -> None:
    empty, node = Ledger(), Incarnation("n1")
    assert empty.put(START, node, 1, ()) is Answer.NO_EPOCH
    assert empty.sweep(START) is Answer.NO_EPOCH
    assert empty.beat(START, node, 1, LEASE) is Answer.NO_EPOCH
    assert empty.join(START, node, 1, LEASE) is Answer.NO_EPOCH


# -- 12. Ids are sets ------------------------------------------------------------------------------------------------


def test_12_the_same_end_twice_is_counted_once() -> None:
    world = World()
    first = world.connect(tab="t1")
    world.connect(tab="t2")
    for _ in range(3):
        world.end(first)
    assert world.record().active_count == 1


def test_12_the_same_contribution_twice_is_counted_once() -> None:
    world = World()
    world.nodes["n1"].deaf = True
    world.connect(tab="t1")
    world.connect(tab="t2")
    assert world.record().active_count == 2
    world.turn()
    world.turn()
    assert world.record().active_count == 2


def test_12_a_stale_contribution_changes_nothing() -> None:
    world = World()
    world.connect(tab="t1")
    stale = world.nodes["n1"].roster.contribution(ALICE, world.now)
    world.connect(tab="t2")
    before = msgspec.msgpack.encode(world.record())
    assert world.ledger.put(world.now, world.nodes["n1"].incarnation, 1, [stale]) is Answer.OK
    assert msgspec.msgpack.encode(world.record()) == before and world.record().active_count == 2


def test_12_counts_are_taken_from_the_set() -> None:
    roster: Roster = World().nodes["n1"].roster
    assert not any("count" in name for name in vars(roster))
    assert not any("count" in name for name in Connection.__slots__)
    assert [t.connections for t in _three_tabs().watcher.seen] == [1, 0]


def _three_tabs() -> World:
    world = World()
    for tab in ("t1", "t2", "t3"):
        world.connect(tab=tab)
    world.kick()
    return world
