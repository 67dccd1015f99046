"""What is shown of the connections and windows of a user."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stillhere.core.events import Change
from stillhere.core.record import ConnectionSummary
from stillhere.core.show import info_of, meta_of, status_of
from stillhere.core.words import Availability, ConnectionId, ReadyState, SessionId, Status, TabId
from tests.unit.core.world import ALICE, START, World

ACTIVE, BUSY, AWAY, INVISIBLE = Availability.ACTIVE, Availability.BUSY, Availability.AWAY, Availability.INVISIBLE


def summary(availability: Availability | None = None, meta: dict[str, object] | None = None) -> ConnectionSummary:
    return ConnectionSummary(ConnectionId("c"), SessionId("s"), TabId("t"), ReadyState.OPEN, START, availability, meta)


@pytest.mark.parametrize(
    ("stated", "shown"),
    [
        ([None], Status.ONLINE),
        ([ACTIVE], Status.ONLINE),
        ([BUSY], Status.BUSY),
        ([AWAY], Status.AWAY),
        ([INVISIBLE], Status.OFFLINE),
        ([AWAY, BUSY], Status.BUSY),
        ([BUSY, AWAY], Status.BUSY),
        ([BUSY, ACTIVE, AWAY], Status.ONLINE),
        ([AWAY, None], Status.ONLINE),
        ([ACTIVE, INVISIBLE], Status.OFFLINE),
        ([INVISIBLE, ACTIVE], Status.OFFLINE),
    ],
)
def test_the_most_available_connection_wins_and_any_invisible_one_hides_all(
    stated: list[Availability | None], shown: Status
) -> None:
    assert status_of([summary(a) for a in stated]) is shown


def test_of_several_connections_that_set_a_key_the_one_opened_last_wins() -> None:
    assert meta_of([summary(meta={"a": 1, "b": 1}), summary(), summary(meta={"b": 2})]) == {"a": 1, "b": 2}
    assert meta_of([summary(), summary(meta={})]) is None


def test_the_public_object_is_that_of_the_newest_token_or_what_was_shown_before() -> None:
    world = World()
    world.connect(tab="t1", info={"name": "old"})
    world.connect(tab="t2", info={"name": "new"})
    assert world.shown().info == {"name": "new"}
    assert info_of([summary()], {"name": "before"}) == {"name": "before"}


def test_a_tab_in_its_window_goes_on_counting_for_the_status() -> None:
    world = World()
    away = world.connect(tab="t1", availability=AWAY)
    busy = world.connect(tab="t2", availability=BUSY)
    world.end(busy)
    assert world.status() is Status.BUSY
    world.advance(8)
    assert world.status() is Status.AWAY
    world.state(away, ACTIVE)
    assert world.changes() == [Change.ONLINE] + [Change.UPDATED] * 3


def test_availability_and_metadata_survive_the_reconnects_of_a_tab() -> None:
    world = World()
    c = world.connect()
    world.state(c, AWAY, {"mood": "tea"})
    told = len(world.watcher.seen)
    for _ in range(3):
        world.end(c)
        world.advance(1)
        c = world.connect()
        assert c.availability is AWAY and c.meta == {"mood": "tea"}, "its node knows"
    assert len(world.watcher.seen) == told
    assert world.status() is Status.AWAY


def test_a_connection_that_supersedes_another_takes_over_its_availability_and_metadata() -> None:
    world = World()
    world.state(world.connect(), BUSY, {"mood": "tea"})
    c = world.connect()
    assert (c.availability, c.meta) == (BUSY, {"mood": "tea"})
    assert world.status() is Status.BUSY


def test_what_a_connection_states_itself_is_not_overwritten_by_its_tab() -> None:
    world = World()
    world.state(world.connect(), AWAY, {"mood": "tea"})
    c = world.connect(availability=ACTIVE)
    assert world.status() is Status.ONLINE
    assert c.meta == {"mood": "tea"}
    assert world.shown().meta == {"mood": "tea"}


def test_nothing_is_taken_over_after_a_kick_although_both_are_told_at_once() -> None:
    world = World()
    world.state(world.connect(), AWAY)
    world.nodes["n1"].delayed = True
    world.kick()
    c = world.connect()
    world.nodes["n1"].delayed = False
    world.turn()
    assert world.status() is Status.ONLINE and c.availability is None


def told_late(world: World) -> Callable[[], None]:
    """The store is slow from now on; the result of this brings it back."""
    world.nodes["n1"].delayed = True

    def told() -> None:
        world.nodes["n1"].delayed = False
        world.turn()

    return told


@pytest.mark.parametrize("reloads", [1, 2])
def test_a_tab_keeps_its_availability_although_its_reloads_are_told_late(reloads: int) -> None:
    world = World()
    c = world.connect()
    told = told_late(world)
    world.state(c, AWAY)
    for n in range(reloads):
        world.advance(1)
        if n % 2:
            world.end(c, 1000)
        c = world.connect()  # supersedes, or comes after the end
    world.advance(60)
    told()
    assert world.status() is Status.AWAY and c.availability is AWAY


def test_a_tab_that_comes_back_after_its_window_starts_afresh_although_both_are_told_at_once() -> None:
    world = World()
    c = world.connect()
    told = told_late(world)
    world.state(c, AWAY)
    world.end(c, 1000)
    world.advance(3)
    world.connect()
    told()
    assert world.status() is Status.ONLINE


@pytest.mark.parametrize(
    ("tab", "session", "kick", "kept"),
    [
        ("t2", "s1", False, False),
        ("t1", "s2", False, False),
        ("t0", "s2", False, True),
        ("t2", "s0", False, True),
        ("t2", "s2", False, True),
        ("t2", "s2", True, False),
    ],
)
def test_a_departure_told_late_ends_what_it_covers_and_no_more(tab: str, session: str, kick: bool, kept: bool) -> None:
    world = World()
    c = world.connect(tab="t1", session="s1")
    told = told_late(world)
    world.state(c, AWAY)
    world.end(c, 1000)
    other = world.connect(tab=tab, session=session)
    if kick:
        world.kick()
    else:
        world.bye(other)
    world.connect(tab="t1", session="s1")
    world.advance(60)  # the window is past when the store hears of it: nothing but the news itself tells of the tab
    told()
    assert world.status() is (Status.AWAY if kept else Status.ONLINE)


def test_a_tab_that_moved_to_another_node_and_back_is_as_it_was_there() -> None:
    world = World(nodes=("n1", "n2"))
    world.state(world.connect(node="n1"), AWAY)
    world.advance(1)
    moved = world.connect(node="n2")
    assert moved.availability is AWAY
    world.state(moved, BUSY)
    world.advance(1)
    back = world.connect(node="n1")  # supersedes the half-open one of this node
    assert back.availability is BUSY


def test_a_connection_that_states_metadata_alone_takes_over_the_availability_of_its_tab() -> None:
    world = World()
    world.state(world.connect(), AWAY, {"mood": "tea"})
    told = told_late(world)
    c = world.connect()
    world.state(c, None, {"seat": 1})
    told()
    assert (c.availability, c.meta) == (AWAY, {"seat": 1})
    assert (world.status(), world.shown().meta) == (Status.AWAY, {"seat": 1})


def test_another_tab_takes_over_nothing() -> None:
    world = World()
    world.bye(world.connect(availability=AWAY))
    c = world.connect(tab="t2")
    assert c.availability is None
    assert world.status() is Status.ONLINE


def test_a_tab_that_says_away_while_its_next_upgrade_is_in_flight_stays_away() -> None:
    world = World()
    old = world.connect()
    upgrade = world.begin()
    world.state(old, AWAY)
    world.open(upgrade)
    assert world.status() is Status.AWAY
    assert upgrade.availability is AWAY


def test_the_newest_connection_of_a_tab_is_the_one_to_take_over_from() -> None:
    world = World()
    world.end(world.connect(availability=ACTIVE))
    second = world.connect()
    world.state(second, AWAY)
    world.connect()  # supersedes the second while the window of the first is pending
    assert world.status() is Status.AWAY


def test_an_upgrade_in_flight_hides_nothing_from_the_next_connection_of_its_tab() -> None:
    world = World()
    world.begin()
    world.advance(1)
    world.connect(availability=BUSY)
    world.advance(1)
    world.connect()
    assert world.status() is Status.BUSY


def test_a_room_keeps_a_tab_through_its_window_and_until_the_tab_has_joined_anew() -> None:
    world = World()
    c = world.connect()
    world.join(c, "r", {"seat": 1})
    world.end(c)
    world.advance(1)
    c = world.connect()
    assert world.members("r") == {ALICE}
    world.join(c, "r", {"seat": 1})
    rooms = [t.change for t in world.watcher.seen if t.room]
    assert rooms == [Change.JOINED, Change.MEMBER], "only the connection id changed"
    world.end(c)
    world.advance(8)
    assert world.members("r") == set()


def test_a_room_that_one_tab_has_joined_anew_keeps_the_others_in_their_windows() -> None:
    world = World()
    for tab in ("t1", "t2", "t3"):
        c = world.connect(tab=tab)
        world.join(c, "r", {"tab": tab})
        world.end(c)
    world.join(world.connect(tab="t2"), "r", {"tab": "t2 again"})
    metas = [meta["tab"] for _, meta in world.record().members["r"].metas]  # type: ignore[index]
    assert metas == ["t1", "t3", "t2 again"]


def test_a_room_loses_a_tab_that_came_back_without_joining_when_the_window_ends() -> None:
    world = World()
    c = world.connect()
    world.join(c, "r")
    world.end(c)
    world.connect()
    world.advance(7.875)
    assert world.members("r") == {ALICE}
    world.advance(0.125)
    assert world.members("r") == set()
    assert world.status() is Status.ONLINE


def test_two_reloads_in_a_row_do_not_flicker_in_a_room() -> None:
    world = World()
    c = world.connect()
    world.join(c, "r")
    world.end(c)
    world.advance(0.5)
    world.end(world.connect())  # gone again before it could join
    world.advance(0.5)
    world.join(world.connect(), "r")
    rooms = [t.change for t in world.watcher.seen if t.room]
    assert rooms == [Change.JOINED, Change.MEMBER, Change.MEMBER], "only the connection id changed"


def test_a_leave_is_no_grace_also_before_the_tab_has_joined_anew() -> None:
    world = World()
    c = world.connect()
    for room in ("a", "r", "z"):
        world.join(c, room)
    world.end(c)
    c = world.connect()
    world.leave(c, "r")
    assert set(world.record().members) == {"a", "z"}
    world.end(c)
    assert set(world.record().members) == {"a", "z"}


def test_a_leave_and_the_end_of_the_connection_in_one_turn_leave_no_window_in_the_room() -> None:
    world = World()
    c = world.connect()
    world.join(c, "r")
    world.join(c, "q")
    world.nodes["n1"].delayed = True
    world.leave(c, "r")
    world.end(c)
    world.nodes["n1"].delayed = False
    world.turn()
    assert world.members("r") == set()
    assert world.members("q") == {ALICE}


def test_a_tab_that_left_and_joined_again_before_it_ended_keeps_its_window_in_the_room() -> None:
    world = World()
    c = world.connect()
    world.join(c, "r")
    world.nodes["n1"].deaf = True
    world.leave(c, "r")
    world.join(c, "r")
    world.end(c)
    assert world.members("r") == {ALICE}
    world.turn()  # the leave, the join and the end are told once more
    assert world.members("r") == {ALICE}


def test_a_leave_of_one_tab_keeps_the_others_in_the_room() -> None:
    world = World()
    first, second = world.connect(tab="t1"), world.connect(tab="t2")
    world.join(first, "r", {"a": 1})
    world.join(second, "r", {"b": 1})
    world.join(second, "q")
    assert world.record().members.keys() == {"r", "q"}
    world.leave(first, "r")
    assert [meta for _, meta in world.record().members["r"].metas] == [{"b": 1}]  # type: ignore[index]
    world.end(second)
    assert world.members("r") == {ALICE}
    world.leave(first, "nowhere")
    assert world.members("nowhere") == set()


def test_rooms_show_the_status_and_the_metadata_of_each_connection_oldest_first() -> None:
    world = World()
    first = world.connect(tab="t1")
    second = world.connect(tab="t2")
    world.join(second, "r", {"n": 2})
    world.join(first, "r", {"n": 1})
    world.end(world.connect(tab="t3"))
    member = world.record().members["r"]  # type: ignore[index]
    assert member.metas == ((first.id, {"n": 1}), (second.id, {"n": 2}))
    world.state(first, BUSY)
    world.state(second, AWAY)
    world.advance(8)
    assert world.record().members["r"].status is Status.BUSY  # type: ignore[index]


@pytest.mark.parametrize("availability", [ACTIVE, BUSY, AWAY])
def test_nobody_leaves_a_room_while_only_an_upgrade_is_in_flight(availability: Availability) -> None:
    world = World()
    c = world.connect(availability=availability)
    world.join(c, "r")
    world.end(c, 1000)
    world.advance(2)
    upgrade = world.begin()
    world.advance(3)
    assert world.members("r") == {ALICE}
    world.refuse(upgrade)
    assert world.members("r") == set()
