"""A restart flips nobody: stops, crashes, and what is readable after them.

The tests over ``lasting`` are promises of every store that outlives its process. Those over ``file`` are of the one
that serves a single node: its end is an outage for all, so every window is held from the next start on, and the log of
former runs is read from the file. In a store that nodes share the others go on meanwhile, and so do the windows; the
tests over ``shared`` say what holds instead.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from stillhere.core.events import Contributed, GraceStarted, Prolonged, Transition
from stillhere.core.record import NOBODY
from stillhere.core.words import Availability, Cause, ReadyState, Status, UserId
from stillhere.store.contract import Cursor, Fenced, StoreUnavailable
from tests.contract.stand import ALICE, ATTIC, BOB, CAROL, LEASE, LOBBY, Stand, changes

ONLINE, OFFLINE = "PRESENCE_ONLINE", "PRESENCE_OFFLINE"
DRAIN, LOST = 45.0, 30.0
DOWN = 3600.0
"""How long the process is gone in these tests. A pause costs each window a second at most, and holds all for two."""


async def shown(stand: Stand, user: UserId) -> Status:
    return (await stand.store.snapshot([user])).users[user].status


async def end_run(stand: Stand, how: str) -> None:
    await (stand.store.stop() if how == "stop" else stand.kill())


def missed_after(stand: Stand, how: str, pauses: int = 1) -> float:
    """Seconds of the next run until the store knows that the last one has ended.

    A store that nodes share learns of a death when the lease runs out, of which each pause takes a second.
    """
    return LEASE - pauses if stand.place is not None and how == "kill" else 0.0


@pytest.mark.parametrize(("how", "window"), [("stop", DRAIN), ("kill", LOST)])
async def test_users_online_at_the_end_of_a_run_are_held(lasting: Stand, how: str, window: float) -> None:
    await lasting.desk.open(ALICE)
    await lasting.desk.open(BOB)
    await lasting.desk.wait(20.0)
    heard = lasting.clock.now
    await end_run(lasting, how)
    lasting.clock.now += DOWN
    next_run = await lasting.again()
    assert await shown(next_run, ALICE) is Status.ONLINE
    assert changes(await next_run.desk.wait(missed_after(lasting, how) + window - 1)) == []
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


async def test_a_longer_window_goes_on_after_a_restart(lasting: Stand) -> None:
    c = await lasting.desk.open(ALICE)
    await lasting.desk.end(ALICE, c, Cause.NODE_DRAIN, 200.0)
    await lasting.desk.wait(10.0)
    await lasting.store.stop()
    lasting.clock.now += DOWN
    next_run = await lasting.again()
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


async def test_who_was_offline_stays_offline_with_what_was_known(lasting: Stand) -> None:
    await lasting.desk.end(ALICE, await lasting.desk.open(ALICE, info={"name": "Alice"}), Cause.BYE, 0.0)
    seen = (await lasting.store.snapshot([ALICE])).users
    await lasting.store.stop()
    next_run = await lasting.again()
    assert (await next_run.store.snapshot([ALICE])).users == seen
    assert changes(await next_run.desk.wait(60.0)) == []
    await next_run.store.stop()


async def test_a_crash_in_the_first_moments_of_a_run_flips_nobody(lasting: Stand) -> None:
    await lasting.desk.open(ALICE)
    run = lasting
    for number in range(5):
        await run.kill()
        lasting.clock.now += 60.0
        run = await lasting.again(f"n1.{number}")
    assert await shown(run, ALICE) is Status.ONLINE
    missed = missed_after(lasting, "kill", pauses=5)
    assert changes(await run.desk.wait(missed + LOST - 1)) == []
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


async def test_rooms_availability_and_metadata_are_held_too(lasting: Stand) -> None:
    await lasting.desk.open(ALICE, availability=Availability.BUSY, meta={"mood": "calm"}, rooms={LOBBY: {"seat": 1}})
    await lasting.desk.open(BOB, availability=Availability.INVISIBLE, rooms={ATTIC: {}})
    room = (await lasting.store.room(LOBBY)).members
    await lasting.kill()
    next_run = await lasting.again()
    assert (await next_run.store.room(LOBBY)).members == room
    assert (await next_run.store.snapshot([BOB])).users[BOB] == NOBODY
    next_run.desk.add(ALICE)
    outcome = await next_run.desk.put(next_run.desk.told(ALICE))
    assert changes(outcome.events) == []
    assert [(i.availability, i.meta) for _, i in outcome.inherited] == [(Availability.BUSY, {"mood": "calm"})]
    await next_run.store.stop()


async def test_an_upgrade_in_flight_does_not_outlive_its_process(lasting: Stand) -> None:
    await lasting.desk.open(ALICE, ready=ReadyState.CONNECTING)
    await lasting.kill()
    next_run = await lasting.again()
    await next_run.desk.wait(missed_after(lasting, "kill", pauses=0))
    assert await next_run.store.record(ALICE) is None
    await next_run.store.stop()
    last_run = await lasting.again("n1.third")
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


async def test_versions_go_on_growing_over_restarts(lasting: Stand) -> None:
    run, seen = lasting, [0]
    epochs = []
    for number in range(4):
        await run.desk.end(ALICE, await run.desk.open(ALICE), Cause.BYE, 0.0)
        await run.desk.wait(5.0)  # after a jump of the clock nobody goes for a moment
        seen.append((await run.store.snapshot([ALICE])).users[ALICE].version)
        epochs.append((await run.store.tip()).epoch)
        await end_run(run, "stop" if number % 2 else "kill")
        lasting.clock.now -= 30.0  # even if the clock was set back
        run = await lasting.again(f"n1.{number}")
    assert seen == sorted(set(seen))
    assert epochs == sorted(set(epochs)) or (lasting.place is not None and len(set(epochs)) == 1)  # it is the server's
    await run.store.stop()


# -- stores that nodes share ------------------------------------------------------------------------------------------


async def test_a_window_goes_on_while_its_node_is_away_and_costs_a_pause_a_second(shared: Stand) -> None:
    c = await shared.desk.open(ALICE)
    await shared.desk.wait(10.0)
    ended_at = shared.clock.now
    await shared.desk.end(ALICE, c, Cause.GOING_AWAY, 8.0)
    await shared.desk.wait(2.0)
    await shared.kill()
    shared.clock.now += DOWN
    next_run = await shared.again()
    assert changes(await next_run.desk.wait(4.0)) == []
    assert changes(await next_run.desk.wait(1.0)) == [(ALICE, OFFLINE, "going_away")]
    assert (await next_run.store.snapshot([ALICE])).users[ALICE].last_seen_at == ended_at
    await next_run.store.stop()


async def test_a_node_reads_the_log_from_its_start_on(shared: Stand) -> None:
    await shared.desk.open(ALICE)
    before = await shared.store.tip()
    late = await shared.again("n2.first")
    assert (await late.store.read_log(before)).gap
    await shared.desk.open(BOB)
    await late.desk.open(CAROL)
    assert [e.user for e in await late.log(late.first)] == [BOB, CAROL]
    assert [e.user for e in await shared.log(before)] == [BOB, CAROL]
    await late.store.stop()


async def test_a_node_that_stops_leaves_its_users_to_the_others_for_the_drain_window(shared: Stand) -> None:
    other = await shared.again("n2.first")
    await other.desk.open(BOB)
    await shared.desk.open(ALICE)
    heard = other.clock.now
    await other.store.stop()
    assert changes(await shared.desk.wait(DRAIN)) == []
    assert changes(await shared.desk.wait(1.0)) == [(BOB, OFFLINE, "node_drain")]
    assert (await shared.store.snapshot([BOB])).users[BOB].last_seen_at == heard
    assert await shown(shared, ALICE) is Status.ONLINE


async def test_another_process_of_the_server_flips_nobody_and_its_epoch_is_a_gap(shared: Stand) -> None:
    assert shared.place is not None
    c = await shared.desk.open(ALICE, rooms={LOBBY: {"seat": 1}})
    seen = (await shared.store.snapshot([ALICE])).users
    tip = await shared.store.tip()
    shared.place.fail_over()
    with pytest.raises(StoreUnavailable):
        await shared.store.beat()
    with pytest.raises(Fenced):
        await shared.store.beat()
    await shared.store.rejoin()
    assert changes((await shared.desk.put(shared.desk.told(ALICE))).events) == []
    await shared.store.settled()
    with contextlib.suppress(StoreUnavailable):  # what asks has a line of its own, and the log's reader asks too
        await shared.store.tip()
    assert changes(await shared.desk.wait(60.0)) == []
    assert (await shared.store.snapshot([ALICE])).users == seen
    assert (await shared.store.tip()).epoch > tip.epoch
    assert changes((await shared.desk.end(ALICE, c, Cause.BYE, 0.0)).events)[0] == (ALICE, OFFLINE, "bye")
    await shared.epoch_is_read()
    assert (await shared.store.read_log(tip)).gap
