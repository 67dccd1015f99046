"""Timelines as items: what is told of all that happened, pages that miss nothing, instants as people write them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from stillhere.core.clock import ClockLimits
from stillhere.core.events import Entry
from stillhere.core.leases import Limits
from stillhere.core.replay import by_user
from stillhere.core.words import Availability, Cause, RoomName
from stillhere.wire.timeline import (
    TYPES,
    TimelineItem,
    expand,
    find_place,
    is_cut,
    parse_instant,
    place_of,
    read_part,
)
from tests.unit.core.scripts import ALL, NODES, Step, Teller, scripts
from tests.unit.core.world import ALICE, START, World

AT = round(START * 1000)


def items(entries: list[Entry]) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(item) for _, item in expand(entries)]


def types(entries: list[Entry]) -> list[str]:
    return [item.type for _, item in expand(entries)]


def test_a_life_is_told_from_the_upgrade_to_the_offline() -> None:
    world = World({Cause.GOING_AWAY: 2.0})
    c = world.begin(tab="t_4f")
    world.advance(1.0)
    world.open(c)
    world.home[c.id].roster.close_received(c, 1001, world.now, "bye for now")
    world.turn()
    world.lost(c)
    world.advance(5.0)
    told = items(world.entries)
    key = f"ali…:s1…:{AT}:c0001…"
    assert told[0] == {
        "at": AT, "type": "upgrade", "connectionKey": key, "tab": "t_4f", "node": "n1",
    }  # fmt: skip
    assert [item["type"] for item in told[1:]] == [
        "opened", "PRESENCE_ONLINE", "closing", "closed", "grace_started", "windows_ran_out", "grace_expired",
        "PRESENCE_OFFLINE",
    ]  # fmt: skip
    closing, closed, started = told[3:6]
    ended = {"cause": "going_away", "code": 1001, "by": "client", "reason": "bye for now"}
    assert {name: closing[name] for name in ended} == ended == {name: closed[name] for name in ended}
    assert (closed["endedAt"], closed["windowMs"], closed["deadline"]) == (AT + 1000, 2000, AT + 3000)
    assert (started["cause"], started["windowMs"], started["deadline"]) == ("going_away", 2000, AT + 3000)
    offline = told[-1]
    assert (offline["version"], offline["status"], offline["connections"], offline["ghostMs"]) == (
        2,
        "offline",
        0,
        2000,
    )


@pytest.mark.parametrize(
    ("cause", "code", "type"),
    [
        (Cause.EXPIRED, 4001, "token_expired"),
        (Cause.NODE_DRAIN, 1012, "node_drained"),
        (Cause.SLOW_CONSUMER, 4102, "closed"),
    ],
)
def test_an_end_is_named_after_what_happened(cause: Cause, code: int, type: str) -> None:
    world = World()
    c = world.connect()
    world.server_close(c, cause, code)
    world.lost(c)
    closed = next(item for _, item in expand(world.entries) if item.type == type)
    assert (closed.cause, closed.code, closed.by) == (cause.value, code, "server")


def test_departures_lost_nodes_and_supersession_are_told() -> None:
    world = World(nodes=("n1", "n2"))
    world.connect(tab="t1")
    world.connect(tab="t1")
    world.connect(tab="t2", node="n2")
    world.kill("n2")
    world.advance(50.0)
    world.nodes["n1"].roster.dismiss(ALICE, Cause.KICKED, world.now, 4004, "spam")
    world.turn()
    world.kick()
    world.kick(cause=Cause.REVOKED)
    told = {item.type: item for _, item in expand(world.entries)}
    assert {"superseded", "node_lost", "kicked", "revoked"} <= set(told)
    assert told["node_lost"].node == "n2" and told["node_lost"].ended_at != told["node_lost"].at
    kicks = [item for _, item in expand(world.entries) if item.type == "kicked"]
    assert (kicks[0].reason, kicks[0].code) == ("spam", 4004)
    assert kicks[1].connection_key is msgspec.UNSET, "nobody's"


def test_states_and_rooms_are_told() -> None:
    world = World()
    c = world.connect()
    world.state(c, Availability.AWAY, {"mood": "calm"})
    world.join(c, "lobby")
    world.leave(c, "lobby")
    told = items(world.entries)
    changed = [item for item in told if item["type"] == "changed"]
    assert changed[0]["what"] == ["availability", "meta"] and changed[0]["availability"] == "away"
    assert [item["type"] for item in told if item.get("room")] == ["ROOM_JOINED", "room_left_on_purpose", "ROOM_LEFT"]


def test_a_return_tells_of_the_gap_and_of_what_was_too_short() -> None:
    world = World({Cause.GOING_AWAY: 1.0})
    world.end(world.connect())
    world.advance(3.0)
    world.end(world.connect())
    world.advance(0.5)
    world.connect()
    back = [item for _, item in expand(world.entries) if item.type == "user_reconnected"]
    assert [(i.gap_ms, i.window_ms, i.false_offline, i.too_short_ms) for i in back] == [
        (3000, 1000, True, 2000),
        (500, 1000, False, msgspec.UNSET),
    ]
    cancelled = next(item for _, item in expand(world.entries) if item.type == "grace_cancelled")
    assert (cancelled.gap_ms, cancelled.by) == (500, "connection_open")


def test_what_a_restart_and_an_upgrade_that_failed_leave_is_told() -> None:
    world = World()
    c = world.begin()
    world.refuse(c)
    world.end(world.connect())
    world.ledger.hold_everyone(world.now, Cause.NODE_DRAIN, 20.0)
    world.hear()
    told = {item.type: item for _, item in expand(world.entries)}
    assert told["upgrade_failed"].connection_key == f"ali…:s1…:{AT}:c0001…"
    assert (told["windows_prolonged"].window_ms, told["windows_prolonged"].deadline) == (20_000, AT + 20_000)


def test_what_is_told_again_in_a_new_epoch_and_while_nothing_expires_is_told_so() -> None:
    world = World(limits=Limits(watchers_outlive=True, clock=ClockLimits(recovery_hold=20.0)))
    world.advance(5.0)
    c = world.connect()
    world.ledger.hello(world.now, "run-2")
    world.state(c)
    again = [item for _, item in expand(world.entries) if item.type == "told_again"]
    assert [item.on_hold for item in again] == [True]


def test_a_cut_timeline_is_told_without_what_it_no_longer_knows() -> None:
    world = World()
    c = world.begin()
    d = world.connect(tab="t2")
    world.open(c)
    world.advance(5.0)
    seen = len(world.entries)
    world.state(d, Availability.BUSY)
    world.end(c)
    world.refuse(world.begin(tab="t3"))
    rest = world.entries[seen:]
    assert is_cut(rest) and not is_cut(world.entries) and not is_cut([])
    told = [item for _, item in expand(rest)]
    assert (told[0].type, told[0].what) == ("changed", [])
    closed = next(item for item in told if item.type == "closed")
    assert closed.connection_key == "ali…:s1…:?:c0001…"
    gone = expand([e for e in rest if e.at == world.now][-1:])
    assert [item.type for _, item in gone] == ["upgrade_failed"] and gone[0][1].connection_key is msgspec.UNSET


def test_a_close_that_was_under_way_stays_closing_when_something_else_changes() -> None:
    world = World()
    c = world.connect()
    world.close(c)
    world.state(c, Availability.AWAY)
    assert types(world.entries) == ["opened", "PRESENCE_ONLINE", "closing", "changed", "PRESENCE_UPDATED"]


@settings(max_examples=settings().max_examples, deadline=None)
@given(scripts(ALL))
def test_every_entry_becomes_at_least_one_item_of_a_known_type(script: list[Step]) -> None:
    world = World(nodes=NODES)
    Teller(world).tell(script)
    for user, entries in by_user(world.entries).items():
        told = expand(entries)
        assert {index for index, _ in told} == set(range(len(entries)))
        for _, item in told:
            assert item.type in TYPES
            assert isinstance(item, TimelineItem)
            key = item.connection_key or ""
            assert not key or key.startswith(f"{user[:3]}…:"), "keys are redacted"


# -- pages ------------------------------------------------------------------------------------------------------------


@settings(max_examples=settings().max_examples // 2, deadline=None)
@given(scripts(ALL, most=25))
def test_page_by_page_nothing_is_missed_and_nothing_told_twice(script: list[Step]) -> None:
    world = World(nodes=NODES)
    Teller(world).tell(script)
    for entries in by_user(world.entries).values():
        for size in (1, 2, 7):
            found, cursor = [], ""
            while True:
                part = read_part(entries, cursor, limit=size)
                found += part.items
                assert len(part.items) <= size and not part.gap
                cursor = part.cursor or ""
                if not part.more:
                    break
            assert found == [item for _, item in expand(entries)]


def test_a_cursor_goes_on_with_what_came_later_and_after_the_oldest_have_gone() -> None:
    world = World()
    c = world.connect()
    first = read_part(world.entries)
    assert read_part(world.entries, first.cursor or "").items == []
    world.advance(1.0)
    world.end(c)
    rest = read_part(world.entries[1:], first.cursor or "")
    assert [item.type for item in rest.items] == ["closed", "grace_started"] and not rest.gap
    world.advance(20.0)
    gone = read_part([e for e in world.entries if e.at > START + 2.0], first.cursor or "")
    assert gone.gap and [item.type for item in gone.items][-1] == "PRESENCE_OFFLINE"


def test_only_what_lies_between_two_times_is_told() -> None:
    world = World()
    c = world.connect()
    world.advance(1.0)
    world.end(c)
    world.advance(20.0)
    part = read_part(world.entries, after=AT, before=AT + 9000)
    assert {item.at for item in part.items} == {AT + 1000}
    nothing = read_part(world.entries, after=AT + 90_000)
    assert (nothing.items, nothing.cursor, nothing.more) == ([], None, False)


@pytest.mark.parametrize("cursor", ["x", "1-2", "1-0000000g-1", "-1-00000000-1", "1-00000000-1 "])
def test_what_is_no_cursor_is_refused_with_a_sentence(cursor: str) -> None:
    with pytest.raises(ValueError, match="it must be one that an earlier page gave"):
        find_place([], cursor)


def test_of_two_entries_of_the_same_time_a_cursor_knows_its_own() -> None:
    world = World()
    world.join(world.connect(), RoomName("lobby"))
    for index, entry in enumerate(world.entries):
        assert find_place(world.entries, place_of(entry, 1)).index == index


# -- instants ---------------------------------------------------------------------------------------------------------

NOW = 1_790_000_000.5


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", NOW), ("now", NOW), (" now ", NOW), ("1790000000123", 1_790_000_000.123), ("0", 0.0), ("-1000", -1.0),
        ("-5m", NOW - 300), ("-5min", NOW - 300), ("-90s", NOW - 90), ("-1.5h", NOW - 5400), ("-250ms", NOW - 0.25),
        ("-2d", NOW - 172_800), ("14:13:20.5", NOW), ("14:13:21", NOW + 0.5 - 86_400), ("0:00:00", 1_789_948_800.0),
        ("2026-09-21T14:13:20.500Z", NOW), ("2026-09-21T16:13:20.500+02:00", NOW), ("2026-09-21 14:13:20.500", NOW),
        ("2026-09-21", 1_789_948_800.0),
    ],
)  # fmt: skip
def test_an_instant_may_be_written_in_several_ways(text: str, at: float) -> None:
    assert parse_instant(text, NOW) == pytest.approx(at, abs=1e-6)


@pytest.mark.parametrize(
    "text", ["yesterday", "-5", "--5m", "-5w", "24:00:00", "12:60:00", "12:00:60", "2026-13-01", "5m", "1e3"]
)
def test_what_is_no_instant_is_refused_with_what_would_be_right(text: str) -> None:
    if text == "-5":
        assert parse_instant(text, NOW) == -0.005
        return
    with pytest.raises(ValueError, match="is no instant; it must be milliseconds since the Unix epoch, -5m"):
        parse_instant(text, NOW)
