"""A restart flips nobody: stops, crashes, and what is readable after them."""

from __future__ import annotations

import asyncio

import pytest

from stillhere.core.events import Contributed, GraceStarted, Prolonged, Transition
from stillhere.core.record import NOBODY
from stillhere.core.words import Availability, Cause, ReadyState, Status, UserId
from stillhere.store.contract import Cursor, StoreUnavailable
from tests.contract.stand import ALICE, ATTIC, BOB, CAROL, LOBBY, Stand, changes

ONLINE, OFFLINE = "PRESENCE_ONLINE", "PRESENCE_OFFLINE"
DRAIN, LOST = 45.0, 30.0
DOWN = 3600.0
"""How long the process is gone in these tests. A pause costs each window a second at most, and holds all for two."""


async def shown(stand: Stand, user: UserId) -> Status:
    return (await stand.store.snapshot([user])).users[user].status


async def end_run(stand: Stand, how: str) -> None:
    await (stand.store.stop() if how == "stop" else stand.kill())


@pytest.mark.parametrize(("how", "window"), [("stop", DRAIN), ("kill", LOST)])
async def test_users_online_at_the_end_of_a_run_are_held_for_its_window(file: Stand, how: str, window: float) -> None:
    await file.desk.open(ALICE)
    await file.desk.open(BOB)
    await file.desk.wait(20.0)
    heard = file.clock.now
    await end_run(file, how)
    file.clock.now += DOWN
    next_run = await file.again()
    assert await shown(next_run, ALICE) is Status.ONLINE
    assert changes(await next_run.desk.wait(window - 1)) == []
    await next_run.desk.open(ALICE)
    cause = "node_drain" if how == "stop" else "node_lost"
    assert changes(await next_run.desk.wait(2.0)) == [(BOB, OFFLINE, cause)]
    assert changes(await next_run.desk.wait(100.0)) == []
    bob = (await next_run.store.snapshot([BOB])).users[BOB]
    assert bob.last_seen_at == heard
    await next_run.store.stop()


@pytest.mark.parametrize(("how", "window"), [("stop", DRAIN), ("kill", LOST)])
async def test_users_in_a_window_at_the_end_of_a_run_keep_their_own_end(file: Stand, how: str, window: float) -> None:
    c = await file.desk.open(ALICE)
    await file.desk.wait(10.0)
    ended_at = file.clock.now
    await file.desk.end(ALICE, c, Cause.CLIENT_CLOSE, 3.0)
    await file.desk.wait(2.0)
    await end_run(file, how)
    file.clock.now += DOWN
    next_run = await file.again()
    assert changes(await next_run.desk.wait(window - 1)) == []
    assert await shown(next_run, ALICE) is Status.ONLINE
    await next_run.desk.wait(2.0)
    alice = (await next_run.store.snapshot([ALICE])).users[ALICE]
    assert (alice.status, alice.last_seen_at) == (Status.OFFLINE, ended_at)
    await next_run.store.stop()


async def test_a_longer_window_goes_on_after_a_restart(file: Stand) -> None:
    c = await file.desk.open(ALICE)
    await file.desk.end(ALICE, c, Cause.NODE_DRAIN, 200.0)
    await file.desk.wait(10.0)
    await file.store.stop()
    file.clock.now += DOWN
    next_run = await file.again()
    record = await next_run.store.record(ALICE)
    assert record is not None and record.grace is not None
    assert changes(await next_run.desk.wait(188.0)) == []
    assert changes(await next_run.desk.wait(2.0)) == [(ALICE, OFFLINE, "node_drain")]
    await next_run.store.stop()


async def test_a_drained_node_holds_its_users_from_the_start_of_the_next_run(file: Stand) -> None:
    c = await file.desk.open(ALICE)
    ended_at = file.clock.now
    await file.desk.end(ALICE, c, Cause.NODE_DRAIN, DRAIN)
    await file.desk.wait(10.0)
    await file.store.stop()
    file.clock.now += DOWN
    next_run = await file.again()
    assert changes(await next_run.desk.wait(DRAIN - 0.1)) == []
    assert changes(await next_run.desk.wait(1.0)) == [(ALICE, OFFLINE, "node_drain")]
    assert (await next_run.store.snapshot([ALICE])).users[ALICE].last_seen_at == ended_at
    await next_run.store.stop()


async def test_who_was_offline_stays_offline_with_what_was_known(file: Stand) -> None:
    await file.desk.end(ALICE, await file.desk.open(ALICE, info={"name": "Alice"}), Cause.BYE, 0.0)
    seen = (await file.store.snapshot([ALICE])).users
    await file.store.stop()
    next_run = await file.again()
    assert (await next_run.store.snapshot([ALICE])).users == seen
    assert changes(await next_run.desk.wait(60.0)) == []
    await next_run.store.stop()


async def test_a_crash_in_the_first_moments_of_a_run_flips_nobody(file: Stand) -> None:
    await file.desk.open(ALICE)
    run = file
    for number in range(5):
        await run.kill()
        file.clock.now += 60.0
        run = await file.again(f"n1.{number}")
    assert await shown(run, ALICE) is Status.ONLINE
    assert changes(await run.desk.wait(LOST - 1)) == []
    assert changes(await run.desk.wait(2.0)) == [(ALICE, OFFLINE, "node_lost")]
    await run.store.stop()


async def test_only_what_a_stop_said_last_makes_a_stop(file: Stand) -> None:
    await file.desk.open(ALICE)
    await file.store.stop()
    second = await file.again("n1.2")
    await second.kill()
    third = await file.again("n1.3")
    assert changes(await third.desk.wait(DRAIN - 1)) == []  # the drain window of the second run's start goes on
    assert changes(await third.desk.wait(2.0)) == [(ALICE, OFFLINE, "node_drain")]
    await third.desk.open(BOB)
    await third.kill()
    fourth = await file.again("n1.4")
    assert changes(await fourth.desk.wait(LOST + 1)) == [(BOB, OFFLINE, "node_lost")]
    await fourth.store.stop()


async def test_rooms_availability_and_metadata_are_held_too(file: Stand) -> None:
    await file.desk.open(ALICE, availability=Availability.BUSY, meta={"mood": "calm"}, rooms={LOBBY: {"seat": 1}})
    await file.desk.open(BOB, availability=Availability.INVISIBLE, rooms={ATTIC: {}})
    room = (await file.store.room(LOBBY)).members
    await file.kill()
    next_run = await file.again()
    assert (await next_run.store.room(LOBBY)).members == room
    assert (await next_run.store.snapshot([BOB])).users[BOB] == NOBODY
    next_run.desk.add(ALICE)
    outcome = await next_run.desk.put(next_run.desk.told(ALICE))
    assert changes(outcome.events) == []
    assert [(i.availability, i.meta) for _, i in outcome.inherited] == [(Availability.BUSY, {"mood": "calm"})]
    await next_run.store.stop()


async def test_an_upgrade_in_flight_does_not_outlive_its_process(file: Stand) -> None:
    await file.desk.open(ALICE, ready=ReadyState.CONNECTING)
    await file.kill()
    next_run = await file.again()
    assert await next_run.store.record(ALICE) is None
    await next_run.store.stop()
    last_run = await file.again("n1.third")
    assert await last_run.store.record(ALICE) is None
    await last_run.store.stop()


async def test_the_first_outcome_tells_what_the_start_did(file: Stand) -> None:
    await file.desk.open(ALICE)
    await file.kill()
    next_run = await file.again()
    outcome = await next_run.store.sweep()
    assert [type(e) for e in outcome.events] == [GraceStarted]
    assert (await next_run.store.sweep()).events == []
    entries = (await next_run.store.timeline(ALICE, 0.0, 1e12, 10)).entries
    assert [type(e) for e in entries] == [Contributed, Transition, Contributed, GraceStarted, Prolonged]
    await next_run.store.stop()


async def test_a_cursor_of_an_earlier_run_goes_on_without_a_gap(file: Stand) -> None:
    start = await file.store.tip()
    runs, tips = [file], [start]
    for number in range(3):
        run = runs[-1]
        for user in (ALICE, BOB, CAROL):
            await run.desk.end(user, await run.desk.open(user), Cause.BYE, 0.0)
        tips.append(await run.store.tip())
        await end_run(run, "stop" if number % 2 else "kill")
        runs.append(await file.again(f"n1.{number}"))
    last = runs[-1]
    assert len({tip.epoch for tip in tips}) == 3
    for tip in tips:
        assert [e.version for e in await last.log(tip, limit=5)] == list(range(tip.seq + 1, 19))
    await last.store.stop()


async def test_an_idle_run_leaves_a_cursor_that_goes_on(file: Stand) -> None:
    await file.desk.open(ALICE)
    await file.store.stop()
    idle = await file.again("n1.2")
    tip = await idle.store.tip()
    await idle.store.stop()
    last = await file.again("n1.3")
    assert await last.log(tip) == []
    await last.desk.open(BOB)
    assert [e.user for e in await last.log(tip)] == [BOB]
    await last.store.stop()


async def test_a_cursor_beyond_what_an_earlier_run_wrote_is_a_gap(file: Stand) -> None:
    await file.desk.open(ALICE)
    file.desk.add(BOB)
    pending = asyncio.ensure_future(file.store.put([file.desk.told(BOB)]))
    lost = (await file.store.snapshot([BOB])).cursor  # ahead of its commit, which never comes
    await file.kill()
    with pytest.raises(StoreUnavailable, match="not open"):
        await pending
    next_run = await file.again()
    await next_run.desk.open(CAROL)
    await next_run.desk.open(BOB)
    assert (await next_run.store.read_log(lost)).gap
    assert (await next_run.store.read_log(Cursor(lost.epoch - 1, 0))).gap
    assert [e.user for e in await next_run.log(Cursor(lost.epoch, 1))] == [CAROL, BOB]
    await next_run.store.stop()


async def test_versions_go_on_growing_over_restarts(file: Stand) -> None:
    run, seen = file, [0]
    epochs = []
    for number in range(4):
        await run.desk.end(ALICE, await run.desk.open(ALICE), Cause.BYE, 0.0)
        await run.desk.wait(5.0)  # after a jump of the clock nobody goes for a moment
        seen.append((await run.store.snapshot([ALICE])).users[ALICE].version)
        epochs.append((await run.store.tip()).epoch)
        await end_run(run, "stop" if number % 2 else "kill")
        file.clock.now -= 30.0  # even if the clock was set back
        run = await file.again(f"n1.{number}")
    assert seen == sorted(set(seen))
    assert epochs == sorted(set(epochs))
    await run.store.stop()
