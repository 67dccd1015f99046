"""The promises of the design, one by one. ``World`` checks all of them after every step of every test besides."""

from __future__ import annotations

import msgspec
import pytest

from stillhere.core.events import Change, GraceCancelled, GraceExpired, GraceStarted
from stillhere.core.roster import Order
from stillhere.core.words import Cause, Phase, ReadyState, Status, UserId
from tests.unit.core.world import ALICE, START, World

ONLINE, OFFLINE = Change.ONLINE, Change.OFFLINE


# -- 1. activeConnectionCount > 0 ⇒ online -------------------------------------------------------------------------


def test_1_a_user_with_an_active_connection_is_online() -> None:
    world = World()
    world.connect()
    assert world.status() is Status.ONLINE
    assert world.record().active_count == 1


def test_1_of_two_tabs_closing_one_shows_nothing() -> None:
    world = World()
    world.connect(tab="t1")
    second = world.connect(tab="t2")
    world.end(second)
    world.advance(60)
    assert world.changes() == [ONLINE]
    assert world.record().active_count == 1


def test_1_a_user_with_connections_on_two_nodes_stays_online_when_either_ends() -> None:
    world = World(nodes=("n1", "n2"))
    first = world.connect(tab="t1", node="n1")
    second = world.connect(tab="t2", node="n2")
    world.end(first)
    world.advance(60)
    assert world.changes() == [ONLINE]
    world.end(second)
    world.advance(60)
    assert world.changes() == [ONLINE, OFFLINE]


# -- 2. OFFLINE only after the own close and the window, or a departure --------------------------------------------


@pytest.mark.parametrize(
    ("code", "cause", "window"),
    [
        (1000, Cause.CLIENT_CLOSE, 3.0),
        (1005, Cause.CLIENT_CLOSE, 3.0),
        (1001, Cause.GOING_AWAY, 8.0),
        (4900, Cause.PAGE_HIDDEN, 8.0),
        (1002, Cause.PROTOCOL_ERROR, 5.0),
    ],
)
def test_2_offline_comes_when_the_window_of_the_close_code_has_run_out(code: int, cause: Cause, window: float) -> None:
    world = World()
    c = world.connect()
    world.end(c, code)
    assert world.graces() == [GraceStarted(ALICE, START, cause, window, START)]
    world.advance(window - 0.125)
    assert world.status() is Status.ONLINE
    world.advance(0.125)
    assert world.status() is Status.OFFLINE
    assert world.graces()[1:] == [GraceExpired(ALICE, START + window, cause, window)]


@pytest.mark.parametrize(
    "cause", [Cause.HEARTBEAT_LOST, Cause.EXPIRED, Cause.SLOW_CONSUMER, Cause.PROTOCOL_ERROR, Cause.NODE_DRAIN]
)
def test_2_offline_after_a_close_of_the_server_waits_for_the_window_of_its_cause(cause: Cause) -> None:
    world = World()
    c = world.connect()
    world.server_close(c, cause, 4201)
    world.advance(1)
    world.lost(c)
    assert world.deadline() == START + 1 + world.policy.window(cause)
    world.advance(60)
    assert world.changes() == [ONLINE, OFFLINE]


def test_2_a_lost_connection_has_the_window_of_abnormal() -> None:
    world = World()
    world.lost(world.connect())
    assert world.deadline() == START + 15


def test_2_a_bye_is_offline_at_once() -> None:
    world = World()
    world.bye(world.connect())
    assert world.status() is Status.OFFLINE
    assert world.shown().last_seen_at == START
    assert world.watcher.seen[-1].cause == Cause.BYE


def test_2_a_bye_ends_the_windows_of_its_session_and_no_others() -> None:
    world = World()
    world.end(world.connect(tab="t1", session="s1"))
    world.end(world.connect(tab="t2", session="s2"), 4900)
    world.bye(world.connect(tab="t3", session="s1"))
    assert world.phase() is Phase.HELD
    assert set(world.record().holds) == {"t2"}
    world.advance(8)
    assert world.changes() == [ONLINE, OFFLINE]


def test_2_a_bye_ends_the_window_that_its_tab_left_open_under_another_session() -> None:
    # a token without `sid` makes a new session of every reload
    world = World()
    world.end(world.connect(tab="t1", session="made-up-1"))
    world.bye(world.connect(tab="t1", session="made-up-2"))
    assert world.status() is Status.OFFLINE


@pytest.mark.parametrize("cause", [Cause.KICKED, Cause.REVOKED])
def test_2_a_kick_ends_every_connection_and_every_window_of_a_user(cause: Cause) -> None:
    world = World(nodes=("n1", "n2"))
    world.connect(tab="t1", node="n1")
    world.connect(tab="t2", node="n2", session="s2")
    world.end(world.connect(tab="t3", node="n2", session="s3"))
    world.kick(cause=cause)
    assert world.status() is Status.OFFLINE
    assert world.record().active_count == 0
    assert world.watcher.seen[-1].cause == cause


def test_2_a_kick_ends_the_window_of_a_user_without_a_connection() -> None:
    world = World()
    world.end(world.connect())
    world.kick()
    assert world.status() is Status.OFFLINE
    assert world.graces()[-1] == GraceCancelled(ALICE, START, Cause.GOING_AWAY, 0.0, "kicked")


def test_2_a_kick_ends_the_window_also_while_an_upgrade_is_in_flight() -> None:
    world = World()
    world.end(world.connect())
    world.begin()
    world.kick()
    assert world.status() is Status.OFFLINE


def test_2_the_news_of_a_kick_repeated_later_does_not_end_the_windows_of_those_who_came_back() -> None:
    world = World(nodes=("n1", "n2"))
    world.connect(node="n2", session="s2")
    world.nodes["n2"].deaf = True
    world.kick()
    world.advance(1)
    world.end(world.connect(node="n1", session="s3"))
    assert world.phase() is Phase.HELD
    world.turn()
    assert world.phase() is Phase.HELD
    world.advance(8)
    assert world.changes() == [ONLINE, OFFLINE] * 2


def test_2_a_window_of_zero_is_offline_at_once() -> None:
    world = World({Cause.GOING_AWAY: 0.0})
    world.end(world.connect())
    assert world.changes() == [ONLINE, OFFLINE]
    assert world.graces() == []


def test_2_the_longest_pending_window_wins() -> None:
    world = World()
    world.lost(world.connect(tab="t1"))
    world.end(world.connect(tab="t2"), 1000)
    assert world.deadline() == START + 15
    assert world.grace() is not None and world.grace().cause is Cause.ABNORMAL  # type: ignore[union-attr]


def test_2_a_connection_that_the_store_never_saw_open_has_its_window_all_the_same() -> None:
    world = World()
    node = world.nodes["n1"]
    world.connect()
    node.delayed = True  # the store is out of reach for a moment, and the page is reloaded twice
    second = world.connect()
    world.advance(1)
    world.end(second)
    node.delayed = False
    world.turn()
    assert world.phase() is Phase.HELD
    assert world.deadline() == START + 1 + 8
    world.advance(8)
    assert world.changes() == [ONLINE, OFFLINE]
    assert world.shown().last_seen_at == START + 1


def test_2_the_window_of_a_tab_that_came_and_went_unseen_outlasts_the_bye_of_another_session() -> None:
    world = World()
    world.nodes["n1"].delayed = True
    stays = world.connect(tab="t1", session="s1")
    world.end(world.connect(tab="t2", session="s2"))
    world.nodes["n1"].delayed = False
    world.turn()
    world.bye(stays)
    assert world.phase() is Phase.HELD


def test_2_who_came_and_went_before_anybody_was_told_is_never_shown() -> None:
    world = World()
    world.nodes["n1"].delayed = True
    world.end(world.connect())
    world.nodes["n1"].delayed = False
    world.turn()
    assert world.changes() == []
    assert world.ledger.records == {}


# -- 3. CLOSING counts until CLOSED, and ends ----------------------------------------------------------------------


def test_3_a_closing_connection_counts_until_it_is_closed() -> None:
    world = World()
    c = world.connect()
    world.close(c)
    world.advance(4.875)
    assert c.ready is ReadyState.CLOSING
    assert world.phase() is Phase.ONLINE
    assert world.record().active_count == 1
    world.lost(c)
    assert world.phase() is Phase.HELD


@pytest.mark.parametrize("by_server", [False, True])
def test_3_closing_ends_by_the_close_timeout_and_then_has_its_window(by_server: bool) -> None:
    world = World(close_timeout=5.0)
    c = world.connect()
    if by_server:
        world.server_close(c)
    else:
        world.close(c)
    world.advance(5)
    assert c.ready is ReadyState.CLOSED
    assert world.orders == [(Order.ABORT, c.id)]
    assert world.deadline() == START + 5 + world.policy.window(c.cause or Cause.BYE)


def test_3_a_second_close_frame_does_not_move_the_close_timeout() -> None:
    world = World(close_timeout=5.0)
    c = world.connect()
    world.server_close(c)
    world.advance(4)
    world.close(c, 1000)
    world.advance(1)
    assert c.ready is ReadyState.CLOSED
    assert c.cause is Cause.EXPIRED, "the first reason for an end is its cause"


# -- 4. Reads change nothing ---------------------------------------------------------------------------------------


def test_4_reads_change_nothing() -> None:
    world = World()
    closing = world.connect(tab="t1")
    world.close(closing)
    world.end(world.connect(tab="t2"))
    world.begin(tab="t3")
    node = world.nodes["n1"]

    def everything() -> bytes:
        ledger = world.ledger
        return msgspec.msgpack.encode(
            (ledger.state, ledger.records, sorted(ledger.rooms), ledger.next_deadline(), node.roster.next_deadline())
        )

    before = everything()
    for _ in range(1000):
        world.ledger.shown(ALICE)
        world.ledger.shown(UserId("nobody"))
        assert world.ledger.users_present == 1
        assert world.ledger.windows_pending == 1
        assert node.roster.active_count(ALICE) == 1
        assert node.roster.active_count(UserId("nobody")) == 0
        node.roster.of(ALICE)
        node.roster.users()
        node.roster.contribution(ALICE, world.now)
    assert everything() == before
    assert world.ledger.take_events() == []
    assert not node.roster.changed
    assert UserId("nobody") not in world.ledger.records


# -- 5. The close of N never undoes N+1 ----------------------------------------------------------------------------


def test_5_the_close_of_an_older_connection_does_not_undo_a_newer_one() -> None:
    world = World()
    old = world.connect(tab="t1")
    new = world.connect(tab="t2")
    world.end(old)
    assert [c.id for c in world.nodes["n1"].roster.of(ALICE)] == [new.id]
    assert world.phase() is Phase.ONLINE


def test_5_a_new_connection_of_a_tab_supersedes_the_old_one_silently() -> None:
    world = World()
    old = world.connect(tab="t1")
    new = world.connect(tab="t1")
    assert old.ready is ReadyState.CLOSED and old.cause is Cause.SUPERSEDED
    assert world.orders == [(Order.SUPERSEDE, old.id)]
    world.lost(old)
    world.close(old, 4005)
    assert world.changes() == [ONLINE]
    assert world.graces() == []
    assert new.ready is ReadyState.OPEN


def test_5_an_older_upgrade_that_is_granted_late_does_not_supersede_the_newer_connection_of_its_tab() -> None:
    world = World()
    slow = world.begin(tab="t1")
    world.advance(1)
    new = world.connect(tab="t1")
    world.open(slow)
    assert new.ready is ReadyState.OPEN
    assert slow.ready is ReadyState.CLOSED
    assert world.orders == [(Order.SUPERSEDE, slow.id)]
    assert world.changes() == [ONLINE]


def test_5_a_superseded_connection_leaves_the_other_tabs_alone() -> None:
    world = World()
    other = world.connect(tab="t2")
    world.connect(tab="t1")
    world.connect(tab="t1")
    assert other.ready is ReadyState.OPEN
    assert world.record().active_count == 2
