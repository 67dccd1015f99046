"""What a node tells a store, and what comes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from stillhere.core.events import GraceCancelled, GraceExpired, GraceStarted, Returned
from stillhere.core.record import NOBODY, Leave
from stillhere.core.words import Availability, Cause, ConnectionId, Incarnation, ReadyState, Status, UserId
from stillhere.store.contract import Fenced
from tests.contract.stand import ALICE, ATTIC, BOB, LOBBY, START, Desk, Stand, changes

ONLINE, OFFLINE = "PRESENCE_ONLINE", "PRESENCE_OFFLINE"


async def shown(stand: Stand, user: UserId) -> Status:
    return (await stand.store.snapshot([user])).users[user].status


async def test_what_is_acknowledged_is_visible(stand: Stand) -> None:
    for number in range(20):
        user = UserId(f"u{number}")
        stand.desk.add(user)
        outcome = await stand.desk.put(stand.desk.told(user))
        assert changes(outcome.events) == [(user, ONLINE, "connection_open")]
        assert await shown(stand, user) is Status.ONLINE
        assert (await stand.log(await stand.store.tip())) == []
        assert stand.store.statistics().seq == stand.first.seq + number + 1


async def test_all_of_one_put_is_acknowledged_together(stand: Stand) -> None:
    users = [UserId(f"u{number:03}") for number in range(300)]
    for user in users:
        stand.desk.add(user)
    outcome = await stand.desk.put(*[stand.desk.told(user) for user in users])
    assert [e.user for e in outcome.events] == users
    assert {s.status for s in (await stand.store.snapshot(users)).users.values()} == {Status.ONLINE}


async def test_many_puts_at_once_are_each_acknowledged(stand: Stand) -> None:
    users = [UserId(f"u{number:03}") for number in range(200)]
    for user in users:
        stand.desk.add(user)
    outcomes = await asyncio.gather(*[stand.store.put([stand.desk.told(user)]) for user in users])
    assert [changes(outcome.events) for outcome in outcomes] == [[(u, ONLINE, "connection_open")] for u in users]


async def test_a_cancelled_put_disturbs_no_other_and_is_applied_once_it_is_repeated(stand: Stand) -> None:
    for user in (ALICE, BOB):
        stand.desk.add(user)
    told = stand.desk.told(ALICE)
    first = asyncio.ensure_future(stand.store.put([told]))
    second = asyncio.ensure_future(stand.store.put([stand.desk.told(BOB)]))
    await asyncio.sleep(0)
    first.cancel()
    assert [c[0] for c in changes((await second).events)] == [BOB] or not first.cancelled()
    if stand.place is not None:  # whether it reached the server nobody knows
        await stand.desk.put(told)
    assert await shown(stand, ALICE) is Status.ONLINE
    assert await shown(stand, BOB) is Status.ONLINE


async def test_a_repeated_put_changes_nothing(stand: Stand) -> None:
    stand.desk.add(ALICE)
    told = stand.desk.told(ALICE)
    await stand.desk.put(told)
    seen = (await stand.store.snapshot([ALICE])).users
    for _ in range(3):
        stand.clock.now += 0.5
        assert (await stand.desk.put(told)).events == []
    assert (await stand.store.snapshot([ALICE])).users == seen


async def test_a_repeated_ending_does_not_restart_the_window(stand: Stand) -> None:
    c = await stand.desk.open(ALICE)
    del stand.desk.connections[ALICE][c.id]
    told = stand.desk.told(ALICE, [stand.desk.ending(c, Cause.GOING_AWAY, 8.0)])
    await stand.desk.put(told)
    await stand.desk.wait(7.0)
    await stand.desk.put(told)
    assert changes(await stand.desk.wait(1.0)) == [(ALICE, OFFLINE, "going_away")]


async def test_a_stale_revision_changes_nothing(stand: Stand) -> None:
    c = stand.desk.add(ALICE)
    opened = stand.desk.told(ALICE)
    stand.desk.connections[ALICE].clear()
    ended = stand.desk.told(ALICE, [stand.desk.ending(c, Cause.BYE, 0.0)])
    stand.desk.add(ALICE)
    await stand.desk.put(stand.desk.told(ALICE))
    assert (await stand.desk.put(ended)).events == []
    assert (await stand.desk.put(opened)).events == []
    assert await shown(stand, ALICE) is Status.ONLINE


async def test_a_user_is_shown_until_the_window_runs_out_and_last_seen_at_the_end(stand: Stand) -> None:
    c = await stand.desk.open(ALICE)
    await stand.desk.wait(5.0)
    ended_at = stand.clock.now
    outcome = await stand.desk.end(ALICE, c, Cause.GOING_AWAY, 8.0)
    assert [type(e) for e in outcome.events] == [GraceStarted]
    assert await stand.desk.wait(7.9) == []
    assert await shown(stand, ALICE) is Status.ONLINE
    events = await stand.desk.wait(0.2)
    assert changes(events) == [(ALICE, OFFLINE, "going_away")]
    assert any(isinstance(e, GraceExpired) for e in events)
    assert (await stand.store.snapshot([ALICE])).users[ALICE].last_seen_at == ended_at


async def test_a_return_within_the_window_is_not_seen(stand: Stand) -> None:
    c = await stand.desk.open(ALICE)
    tip = await stand.store.tip()
    await stand.desk.end(ALICE, c, Cause.GOING_AWAY)
    await stand.desk.wait(3.0)
    await stand.desk.open(ALICE)
    await stand.desk.wait(60.0)
    assert await stand.log(tip) == []
    assert [type(e) for e in stand.desk.events[1:]] == [GraceStarted, Returned, GraceCancelled]


async def test_an_ending_that_arrives_late_does_not_extend_the_window(stand: Stand) -> None:
    c = await stand.desk.open(ALICE)
    await stand.desk.wait(10.0)
    await stand.desk.end(ALICE, c, Cause.ABNORMAL, window=15.0, ago=6.0)
    assert changes(await stand.desk.wait(8.9)) == []
    assert changes(await stand.desk.wait(0.2)) == [(ALICE, OFFLINE, "abnormal")]
    assert (await stand.store.snapshot([ALICE])).users[ALICE].last_seen_at == pytest.approx(START + 4.0)


async def test_an_ending_older_than_its_window_is_offline_at_once(stand: Stand) -> None:
    c = await stand.desk.open(ALICE)
    await stand.desk.wait(10.0)
    assert changes((await stand.desk.end(ALICE, c, Cause.CLIENT_CLOSE, 3.0, ago=4.0)).events) == [
        (ALICE, OFFLINE, "client_close")
    ]


@pytest.mark.parametrize("cause", [Cause.BYE, Cause.KICKED, Cause.REVOKED])
async def test_a_departure_is_offline_at_once(stand: Stand, cause: Cause) -> None:
    c = await stand.desk.open(ALICE)
    assert changes((await stand.desk.end(ALICE, c, cause, 0.0)).events) == [(ALICE, OFFLINE, cause)]


async def test_one_of_two_tabs_closes_silently(stand: Stand) -> None:
    first = await stand.desk.open(ALICE, "t1")
    await stand.desk.open(ALICE, "t2")
    tip = await stand.store.tip()
    await stand.desk.end(ALICE, first, Cause.BYE, 0.0)
    await stand.desk.wait(60.0)
    assert await stand.log(tip) == []


async def test_an_upgrade_in_flight_keeps_the_user_until_its_outcome(stand: Stand) -> None:
    c = await stand.desk.open(ALICE)
    await stand.desk.end(ALICE, c, Cause.CLIENT_CLOSE, 3.0)
    coming = await stand.desk.open(ALICE, ready=ReadyState.CONNECTING)
    assert changes(await stand.desk.wait(20.0)) == []
    assert await shown(stand, ALICE) is Status.ONLINE
    del stand.desk.connections[ALICE][coming.id]
    assert changes((await stand.desk.put(stand.desk.told(ALICE))).events) == [(ALICE, OFFLINE, "client_close")]


async def test_availability_and_metadata_outlive_a_reconnect_and_their_node_is_told(stand: Stand) -> None:
    c = await stand.desk.open(ALICE, availability=Availability.AWAY, meta={"mood": "calm"})
    await stand.desk.end(ALICE, c, Cause.GOING_AWAY)
    stand.desk.add(ALICE)
    outcome = await stand.desk.put(stand.desk.told(ALICE))
    assert [(u, i.availability, i.meta) for u, i in outcome.inherited] == [(ALICE, Availability.AWAY, {"mood": "calm"})]
    assert await shown(stand, ALICE) is Status.AWAY


async def test_availability_is_not_inherited_by_another_tab(stand: Stand) -> None:
    c = await stand.desk.open(ALICE, "t1", availability=Availability.AWAY)
    await stand.desk.end(ALICE, c, Cause.BYE, 0.0)
    stand.desk.add(ALICE, "t2")
    assert (await stand.desk.put(stand.desk.told(ALICE))).inherited == []
    assert await shown(stand, ALICE) is Status.ONLINE


async def test_a_room_is_kept_through_a_window_and_left_by_leaving(stand: Stand) -> None:
    c = await stand.desk.open(ALICE, rooms={LOBBY: {}, ATTIC: {}})
    await stand.desk.end(ALICE, c, Cause.GOING_AWAY)
    await stand.desk.put(stand.desk.told(ALICE, leaves=[Leave(c.tab, ATTIC)]))
    assert list((await stand.store.room(LOBBY)).members) == [ALICE]
    assert (await stand.store.room(ATTIC)).members == {}
    await stand.desk.wait(9.0)
    assert (await stand.store.room(LOBBY)).members == {}
    assert await stand.store.rooms("", 10) == []


@pytest.mark.parametrize("rooms", [None, {LOBBY: {"seat": 1}}])
async def test_an_invisible_user_is_hidden_everywhere(stand: Stand, rooms: Any) -> None:
    c = await stand.desk.open(ALICE, rooms=rooms)
    await stand.desk.wait(5.0)
    hidden_at = stand.clock.now
    await stand.desk.change(ALICE, c, availability=Availability.INVISIBLE)
    tip = await stand.store.tip()
    seen = (await stand.store.snapshot([ALICE])).users[ALICE]
    assert (seen.status, seen.last_seen_at, seen.meta) == (Status.OFFLINE, hidden_at, None)
    assert (await stand.store.room(LOBBY)).members == {}
    assert await stand.store.rooms("", 10) == []
    assert (await stand.store.page("", 10, "", Status.ONLINE)).users == []
    assert [user for user, _ in (await stand.store.page("", 10, "", Status.OFFLINE)).users] == [ALICE]
    await stand.desk.wait(5.0)
    await stand.desk.change(ALICE, c, meta={"mood": "sly"})
    other = await stand.desk.open(ALICE, "t2", rooms={ATTIC: {}})
    await stand.desk.end(ALICE, other, Cause.BYE, 0.0)
    await stand.desk.end(ALICE, c, Cause.GOING_AWAY)
    await stand.desk.wait(20.0)
    assert await stand.log(tip) == []
    assert (await stand.store.snapshot([ALICE])).users[ALICE] == seen


async def test_an_invisible_user_who_never_was_seen_looks_like_an_unknown_one(stand: Stand) -> None:
    await stand.desk.open(ALICE, availability=Availability.INVISIBLE, rooms={LOBBY: {}})
    await stand.desk.wait(3.0)
    assert (await stand.store.snapshot([ALICE])).users[ALICE] == NOBODY
    assert (await stand.store.page("", 10, "", None)).users == []
    assert await stand.store.tip() == stand.first


async def test_a_retired_incarnation_is_fenced(stand: Stand) -> None:
    c = await stand.desk.open(ALICE)
    await stand.store.retire(stand.store.incarnation_for(ALICE), Cause.NODE_LOST)
    with pytest.raises(Fenced, match=r"n1\.first"):
        await stand.desk.end(ALICE, c, Cause.BYE, 0.0)
    with pytest.raises(Fenced):
        await stand.store.beat()
    assert await shown(stand, ALICE) is Status.ONLINE


async def test_retiring_somebody_unknown_harms_nobody(stand: Stand) -> None:
    await stand.desk.open(ALICE)
    await stand.store.retire(Incarnation("n9.never"), Cause.NODE_LOST)
    assert changes(await stand.desk.wait(60.0)) == []
    assert await shown(stand, ALICE) is Status.ONLINE


async def test_the_users_of_a_dead_incarnation_are_held_and_then_offline(stand: Stand) -> None:
    other = stand.neighbour("n2.x")
    await other.join(5.0)
    stand.desk.add(BOB)
    await other.put(stand.desk.told(BOB))
    stand.desk.connections.clear()
    died_at = stand.clock.now
    await stand.desk.sweep()
    events = await stand.desk.wait(5.0)  # the lease
    assert [type(e) for e in events] == [GraceStarted]
    assert changes(await stand.desk.wait(29.0)) == []
    assert changes(await stand.desk.wait(1.0)) == [(BOB, OFFLINE, "node_lost")]
    assert (await stand.store.snapshot([BOB])).users[BOB].last_seen_at == died_at
    assert stand.dead() == set()
    assert await other.beat(5.0) == "FENCED"
    await other.close()


async def test_a_user_of_two_nodes_goes_when_the_last_of_them_ends(stand: Stand) -> None:
    other = stand.neighbour("n2.x")
    await other.join(1000.0)
    here = await stand.desk.open(ALICE, "t1")
    elsewhere = Desk(stand.store, stand.clock)
    elsewhere.revisions[ALICE] = 7  # the revisions of nodes have nothing to do with each other
    there = elsewhere.add(ALICE, "t2", "s2")
    there = elsewhere.connections[ALICE][there.id] = msgspec.structs.replace(there, id=ConnectionId("there"))
    assert changes(await other.put(elsewhere.told(ALICE))) == []
    assert changes((await stand.desk.end(ALICE, here, Cause.BYE, 0.0)).events) == []
    elsewhere.connections.clear()
    ended = elsewhere.told(ALICE, [elsewhere.ending(there, Cause.BYE, 0.0)])
    assert changes(await other.put(ended)) == [(ALICE, OFFLINE, "bye")]
    await other.close()


async def test_a_beat_is_answered_and_changes_nobody(stand: Stand) -> None:
    await stand.desk.open(ALICE)
    tip = await stand.store.tip()
    for _ in range(30):
        stand.clock.now += 1.0
        assert list((await stand.store.beat()).events) == []
    assert await stand.store.tip() == tip


async def test_the_next_deadline_is_that_of_the_first_window(stand: Stand) -> None:
    a, b = await stand.desk.open(ALICE), await stand.desk.open(BOB)
    await stand.desk.end(ALICE, a, Cause.GOING_AWAY, 8.0)
    await stand.desk.end(BOB, b, Cause.CLIENT_CLOSE, 3.0)
    await stand.desk.sweep()
    assert stand.store.next_deadline() == pytest.approx(3.0)
    await stand.desk.wait(3.0)
    assert stand.store.next_deadline() == pytest.approx(5.0)


async def test_a_clock_that_jumps_ends_no_window_early(stand: Stand) -> None:
    c = await stand.desk.open(ALICE)
    await stand.desk.end(ALICE, c, Cause.ABNORMAL, 15.0)
    for jump in (7200.0, -7200.0):
        stand.clock.now += jump
        await stand.desk.sweep()
        assert await shown(stand, ALICE) is Status.ONLINE
    assert changes(await stand.desk.wait(10.0)) == []
    assert changes(await stand.desk.wait(6.0)) == [(ALICE, OFFLINE, "abnormal")]


async def test_with_a_user_who_is_forgotten_goes_all_that_happened_to_them(forgetful: Stand) -> None:
    for user in (ALICE, BOB):
        await forgetful.desk.end(user, await forgetful.desk.open(user, info={"name": "N"}), Cause.BYE, 0.0)
        await forgetful.desk.wait(20.0)
    assert len((await forgetful.store.timeline(ALICE, 0.0, 1e12, 10)).entries) == 4
    await forgetful.desk.wait(21.0)
    assert [user for user, _ in (await forgetful.store.page("", 10, "", None)).users] == [BOB]
    assert await forgetful.store.record(ALICE) is None
    assert (await forgetful.store.snapshot([ALICE])).users[ALICE] == NOBODY
    assert list((await forgetful.store.timeline(ALICE, 0.0, 1e12, 10)).entries) == []
    await forgetful.desk.open(ALICE)
    assert len((await forgetful.store.timeline(ALICE, 0.0, 1e12, 10)).entries) == 2


async def test_statistics_count_what_there_is(stand: Stand) -> None:
    a = await stand.desk.open(ALICE, rooms={LOBBY: {}})
    await stand.desk.open(BOB)
    await stand.desk.end(ALICE, a, Cause.GOING_AWAY)
    await stand.store.beat()
    figures = stand.store.statistics()
    assert (figures.kind, figures.seq - stand.first.seq, figures.backlog) == (stand.store.kind, 3, 0)
    assert (figures.users_known, figures.users_present, figures.windows_pending, figures.rooms) == (2, 2, 1, 1)
    assert figures.reachable
    await stand.desk.wait(9.0)
    await stand.store.beat()
    figures = stand.store.statistics()
    assert (figures.users_known, figures.users_present, figures.windows_pending, figures.rooms) == (2, 1, 0, 0)
