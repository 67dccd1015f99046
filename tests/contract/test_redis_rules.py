"""What the function library promises by itself: rules R1 to R8 of the store, its keys, its bounds, and bad data.

That it decides as the ledger does is shown by ``test_differential``; here each promise stands alone, in plain steps.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
import redis.exceptions as failures

from stillhere.core.events import Change, GraceStarted, NoticeKind, Transition
from stillhere.core.leases import Answer
from stillhere.core.record import Ending, Hold
from stillhere.core.words import (
    Availability,
    Cause,
    ConnectionId,
    Incarnation,
    RoomName,
    SessionId,
    Status,
    TabId,
    UserId,
)
from stillhere.store.contract import StoreRefused
from stillhere.store.redis import codec
from stillhere.store.redis.library import LIBRARY, SCHEMA
from stillhere.store.redis.line import keys_of
from tests.contract.redis_stand import (
    ANN,
    AWAY,
    DUE,
    LEASE,
    LIMITS,
    LOG,
    META,
    N1,
    N2,
    NAMES,
    NODES,
    ROOMS,
    TIMELINES,
    USERS,
    Stand,
    ends,
)


@pytest.fixture
async def stand(port: int) -> AsyncIterator[Stand]:
    stand = Stand(port)
    yield stand
    stand.client.config_set("maxmemory", 0)
    stand.client.close()


# -- the rules of the store -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [3600.0, -3600.0], ids=["an hour ahead", "an hour back"])
async def test_a_jump_of_the_servers_clock_judges_nobody_before_nodes_were_heard(stand: Stand, step: float) -> None:
    await stand.begin()
    c = stand.connection()
    await stand.put(N1, stand.told(ANN, c))
    await stand.put(N1, stand.told(ANN, endings=(ends(c, 5.0),)))
    before = (await stand.line.sweep(100)).clock
    stand.wait(step)
    told = await stand.line.sweep(100)
    assert told.answer is Answer.HOLD
    assert told.clock <= before + LIMITS.clock.gap_step
    assert await stand.pass_by(5) == []
    assert await stand.shown() is Status.ONLINE
    gone = await stand.pass_by(6)
    assert [e.change for e in gone if isinstance(e, Transition)] == [Change.OFFLINE]


async def test_without_a_time_of_the_tests_the_server_asks_its_own(stand: Stand) -> None:
    stand.set(now=0.0)
    await stand.line.hello(0, N1, 1, 1, [])
    await stand.line.join(N1, 1, LEASE, "", b"")
    first = await stand.put(N1, stand.told(ANN, stand.connection(opened_at=time.time())))
    assert abs(first.events[0].at - time.time()) < 60
    second = await stand.line.beat(N1, 1, LEASE, b"")
    assert first.clock < second.clock < 60


async def test_who_has_no_lease_or_speaks_over_an_older_line_changes_nothing(stand: Stand) -> None:
    await stand.begin()
    await stand.line.hello(0, N1, 3, 1, [])
    before = stand.dump()
    del before[META.encode()]
    for incarnation, channel in ((N1, 2), (Incarnation("n9.1"), 9)):
        got = await stand.put(incarnation, stand.told(ANN, stand.connection()), channel=channel)
        assert got.answer is Answer.FENCED
        assert (await stand.line.beat(incarnation, channel, LEASE, b"")).answer is Answer.FENCED
    after = stand.dump()
    del after[META.encode()]
    assert before == after
    assert (await stand.put(N1, stand.told(ANN, stand.connection()), channel=3)).answer is Answer.OK


async def test_what_was_told_already_is_told_again_without_effect(stand: Stand) -> None:
    await stand.begin()
    told = stand.told(ANN, stand.connection())
    first = await stand.put(N1, told)
    before = stand.client.hgetall(USERS), stand.client.xlen(LOG)
    second = await stand.put(N1, told)
    assert (len(first.events), len(second.events), second.seq) == (1, 0, first.seq)
    assert (stand.client.hgetall(USERS), stand.client.xlen(LOG)) == before


async def test_only_a_sweep_ends_a_window_and_reading_changes_nothing(stand: Stand) -> None:
    await stand.begin()
    c = stand.connection(rooms={RoomName("lobby"): {}})
    await stand.put(N1, stand.told(ANN, c))
    await stand.put(N1, stand.told(ANN, endings=(ends(c, 2.0),)))
    stand.wait(2.5)
    before = stand.dump()
    assert await stand.shown() is Status.ONLINE
    assert list((await stand.line.room(RoomName("lobby"))).members) == [ANN]
    await stand.line.rooms("", 10)
    await stand.line.record(ANN)
    await stand.line.page("", 10, "", None)
    await stand.line.timeline(ANN, 0.0, 1e12, 10)
    assert stand.dump() == before
    told = await stand.line.sweep(100)
    changes = [e.change for e in told.events if isinstance(e, Transition)]
    assert changes == [Change.OFFLINE, Change.LEFT]
    assert not stand.client.exists(ROOMS) and not stand.client.exists(NAMES) and not stand.client.exists(DUE)


async def test_the_longest_window_wins_and_another_tab_does_not_shorten_it(stand: Stand) -> None:
    await stand.begin()
    c1, c2 = stand.connection("c1", "t1"), stand.connection("c2", "t2")
    await stand.put(N1, stand.told(ANN, c1))
    await stand.put(N2, stand.told(ANN, c2))
    await stand.put(N1, stand.told(ANN, endings=(ends(c1, 20.0),)))
    got = await stand.put(N2, stand.told(ANN, endings=(ends(c2, 2.0),)))
    assert [e.window for e in got.events if isinstance(e, GraceStarted)] == [20.0]
    await stand.pass_by(19)
    assert await stand.shown() is Status.ONLINE
    await stand.pass_by(1)
    assert await stand.shown() is Status.OFFLINE


async def test_a_window_runs_from_the_end_and_not_from_the_news_of_it(stand: Stand) -> None:
    await stand.begin()
    c = stand.connection()
    await stand.put(N1, stand.told(ANN, c))
    stand.wait(2.0)
    await stand.put(N1, stand.told(ANN, endings=(ends(c, 5.0, ago=2.0),)))
    assert (await stand.line.sweep(100)).due == 3.0


async def test_another_process_of_the_server_begins_a_new_epoch_and_a_hold(stand: Stand) -> None:
    await stand.begin()
    first = await stand.line.hello(0, N1, 1, 1, [])
    stand.caller.run = "run 1"
    second = await stand.line.hello(first.epoch, N1, 2, 7, [])
    assert second.epoch > first.epoch and second.epoch % 1024 == 7
    assert second.recovering and (await stand.line.sweep(100)).answer is Answer.HOLD
    third = await stand.line.hello(first.epoch, N2, 2, 8, [])
    assert third.epoch == second.epoch
    for incarnation in (N1, N2):
        told = await stand.line.asserted(incarnation, 2)
        assert told.recovering == (incarnation is N1)
    assert (await stand.line.sweep(100)).answer is Answer.OK


async def test_a_store_that_was_emptied_answers_nothing_but_hello_and_recovers_for_the_whole_time(stand: Stand) -> None:
    await stand.begin()
    stand.client.flushall()
    line = stand.line
    told = [
        await line.join(N1, 1, LEASE, "", b""),
        await line.beat(N1, 1, LEASE, b""),
        await line.asserted(N1, 1),
        await stand.put(N1, stand.told(ANN, stand.connection())),
        await line.sweep(10),
        await line.reap(N1, {Cause.NODE_LOST: 30.0}, 10),
        await line.retire(N1, Cause.NODE_LOST),
        await line.notify(NoticeKind.DRAIN, "", "", "", ""),
        await line.snapshot([ANN]),
        await line.room(RoomName("lobby")),
        await line.record(ANN),
        await line.rooms("", 10),
        await line.page("", 10, "", None),
        await line.timeline(ANN, 0.0, 1e12, 10),
    ]
    assert {one.answer for one in told} == {Answer.NO_EPOCH}
    assert list(stand.client.scan_iter()) == []
    await line.hello(5, N1, 1, 1, [])
    await line.join(N1, 1, LEASE, "", b"")
    assert (await line.asserted(N1, 1)).recovering
    await stand.pass_by(19)
    assert (await line.sweep(10)).answer is Answer.HOLD
    stand.wait(1.0)
    assert (await line.sweep(10)).answer is Answer.OK


async def test_who_is_back_from_a_window_of_a_lost_epoch_is_doubtful_until_told_again(stand: Stand) -> None:
    await stand.begin()
    c = stand.connection()
    await stand.put(N1, stand.told(ANN, c))
    await stand.put(N1, stand.told(ANN, endings=(ends(c, 30.0),)))
    assert (await stand.line.snapshot([ANN])).doubtful == frozenset()
    stand.caller.run = "run 1"
    await stand.line.hello(0, N1, 1, 1, [])
    assert (await stand.line.snapshot([ANN])).doubtful == {ANN}
    got = await stand.put(N1, stand.told(ANN, stand.connection("c2")))
    assert [e.change for e in got.events if isinstance(e, Transition)] == [Change.UPDATED]
    assert (await stand.line.snapshot([ANN])).doubtful == frozenset()


# -- nodes ----------------------------------------------------------------------------------------------------------


async def test_the_users_of_a_lost_node_are_drained_in_slices_and_each_once(stand: Stand) -> None:
    await stand.begin()
    users = [UserId(f"u{i:03}") for i in range(450)]
    await stand.put(N1, *[stand.told(user, stand.connection(f"c-{user}")) for user in users])
    assert (await stand.line.beat(N1, 1, 5.0, b"")).carried == 450
    await stand.pass_by(5)
    assert (await stand.line.sweep(100)).dead == [N1]
    drained, windows = [], []
    while True:
        told = await stand.line.reap(N1, {Cause.NODE_LOST: 30.0}, 200)
        drained.append(told.drained)
        started = [e for e in told.events if isinstance(e, GraceStarted)]
        assert [e.user for e in started] == sorted(e.user for e in started)
        windows += started
        if told.drained < 200:
            break
    assert drained == [200, 200, 50]
    assert sorted(e.user for e in windows) == users
    # it was heard last five seconds ago, and its users end with that; the window runs from now
    assert {e.ended_at for e in windows} == {stand.options.now - 5.0}
    assert (await stand.line.sweep(100)).dead == []
    assert {user.decode() for user in stand.client.hkeys(NODES)} == {N2}


async def test_what_a_lost_node_tells_itself_counts_though_a_longer_window_was_taken_over(stand: Stand) -> None:
    await stand.begin()
    first, second = stand.connection(), stand.connection("c2")
    await stand.put(N1, stand.told(ANN, first))
    await stand.put(N1, stand.told(ANN, second, endings=(ends(first, 45.0, Cause.NODE_DRAIN),)))
    stand.wait(1.0)
    await stand.line.retire(N1, Cause.NODE_LOST)
    await stand.line.reap(N1, {Cause.NODE_LOST: 30.0}, 200)

    async def hold() -> Hold:
        record = (await stand.line.record(ANN)).record
        assert record is not None
        return record.holds[first.tab]

    before = await hold()
    assert (before.connection.id, before.cause, before.untold) == ("c2", Cause.NODE_DRAIN, True)
    late = ends(second, 45.0, Cause.NODE_DRAIN, 0.5)
    await stand.put(N2, stand.told(ANN, endings=(late,)))
    after = await hold()
    assert (after.deadline, after.untold) == (before.deadline + 0.5, False)
    stand.wait(1.0)
    await stand.put(N2, stand.told(ANN, endings=(late,)))
    assert await hold() == after, "told again it is no news"


async def test_a_store_of_another_form_or_another_number_of_partitions_is_refused_in_a_sentence(stand: Stand) -> None:
    stand.client.hset(META, "stamp", f"{SCHEMA}/16")
    with pytest.raises(StoreRefused, match=r"written for 16 partitions, cluster\.partitions is 1"):
        await stand.line.hello(0, N1, 1, 1, [])
    stand.client.hset(META, "stamp", "1/1")
    with pytest.raises(StoreRefused, match=f"written with schema 1, this version has schema {SCHEMA}"):
        await stand.line.hello(0, N1, 1, 1, [])
    assert list(stand.client.scan_iter()) == [META.encode()]


async def test_two_builds_of_the_library_serve_the_same_data_during_a_deploy(stand: Stand) -> None:
    assert re.fullmatch(rf"stillhere_{SCHEMA}_[0-9a-f]{{8}}", LIBRARY.name)
    other = LIBRARY.name[:-8] + "00000000"
    stand.client.execute_command("FUNCTION", "LOAD", "REPLACE", LIBRARY.text.replace(LIBRARY.name, other))
    try:
        await stand.begin()
        await stand.put(N1, stand.told(ANN, stand.connection()))
        limits = stand.line._limits
        name = f"{other}_snapshot"
        _, _, body = stand.client.execute_command("FCALL", name, 13, *keys_of(0), limits, codec.pack([ANN]))
        assert codec.shown_of(codec.unpack(body)[0][0]).status is Status.ONLINE
    finally:
        stand.client.execute_command("FUNCTION", "DELETE", other)


# -- keys and bounds ------------------------------------------------------------------------------------------------


async def test_every_key_is_one_of_the_partition_and_was_declared(stand: Stand) -> None:
    await stand.begin()
    c = stand.connection(rooms={RoomName("lobby"): {}}, meta={"a": 1})
    await stand.put(N1, stand.told(ANN, c), stand.told(UserId("bob"), stand.connection("c9")))
    await stand.put(N1, stand.told(ANN, endings=(ends(c, 5.0),)))
    await stand.line.retire(N2, Cause.NODE_DRAIN)
    there = {key.decode() for key in stand.client.scan_iter()}
    assert there <= {*keys_of(0), *keys_of(0, N1), *keys_of(0, N2)}
    assert all(key.startswith("{stillhere:0}:") for key in there)


async def test_who_is_forgotten_leaves_nothing_behind(stand: Stand) -> None:
    await stand.begin()
    stand.set(limits=msgspec.structs.replace(LIMITS, known_users=1))
    for user in (ANN, UserId("bob")):
        c = stand.connection(f"c-{user}", rooms={RoomName("lobby"): {}})
        for stated in [Availability.BUSY, Availability.AWAY] * 5:
            await stand.put(N1, stand.told(user, msgspec.structs.replace(c, availability=stated)))
        stand.wait(1.0)
        await stand.put(N1, stand.told(user, endings=(ends(c, 0.0, Cause.BYE),)))
    await stand.line.sweep(100)
    assert stand.client.zrange(AWAY, 0, -1) == [b"bob"]
    assert stand.client.hkeys(USERS) == [b"bob"]
    assert {field.partition(b"\0")[0] for field in stand.client.hkeys(TIMELINES)} == {b"bob"}
    await stand.pass_by(60)
    assert not stand.client.exists(USERS, TIMELINES, AWAY, DUE, ROOMS, NAMES, keys_of(0, N1)[-1])


async def test_a_kick_of_somebody_unknown_covers_the_ends_before_it_and_is_forgotten_in_time(stand: Stand) -> None:
    await stand.begin()
    kick = Ending(ConnectionId(""), SessionId(""), TabId(""), Cause.KICKED, 0.0, 0.0)
    await stand.put(N1, stand.told(ANN, endings=(kick,)))
    stand.wait(1.0)
    late = ends(stand.connection(), 15.0, ago=3.0)
    await stand.put(N2, stand.told(ANN, stand.connection("c2", "t2"), endings=(late,)))
    await stand.put(N2, stand.told(ANN, endings=(ends(stand.connection("c2", "t2"), 0.0),)))
    assert await stand.shown() is Status.OFFLINE
    await stand.put(N1, stand.told(UserId("bob"), endings=(kick,)))
    assert stand.client.zrange(AWAY, 0, -1) == [b"ann", b"bob"]
    await stand.pass_by(59)
    assert stand.client.hexists(USERS, "bob")
    await stand.pass_by(1)
    assert not stand.client.exists(USERS, TIMELINES, AWAY)


async def test_who_departed_first_is_forgotten_first_though_the_clock_went_back(stand: Stand) -> None:
    await stand.begin()
    stand.set(limits=msgspec.structs.replace(LIMITS, known_users=1))
    for user in ("zoe", "ann"):
        c = stand.connection(f"c-{user}")
        await stand.put(N1, stand.told(UserId(user), c))
        await stand.put(N1, stand.told(UserId(user), endings=(ends(c, 0.0, Cause.BYE),)))
        stand.wait(-3600.0)
    await stand.pass_by(10)
    assert stand.client.hkeys(USERS) == [b"ann"]


async def test_the_log_is_cut_to_about_its_length(stand: Stand) -> None:
    await stand.begin()
    stand.set(log_kept=200)
    users = [UserId(f"u{i}") for i in range(1000)]
    told = await stand.put(N1, *[stand.told(user, stand.connection(f"c-{user}")) for user in users])
    assert len(told.events) == 1000
    assert 200 <= stand.client.xlen(LOG) <= 400


async def test_pages_have_each_user_once_and_prefixes_are_taken_literally(stand: Stand) -> None:
    await stand.begin()
    names = ["a*b", "a*c", "axb", "[x]1", "\\1", "?", *[f"user-{i}" for i in range(700)]]
    busy = msgspec.structs.replace(stand.connection(), availability=Availability.BUSY)
    for name in names:
        c = busy if name == "a*c" else stand.connection()
        await stand.put(N1, stand.told(UserId(name), msgspec.structs.replace(c, id=ConnectionId(f"c-{name}"))))

    async def pages(prefix: str, status: Status | None, limit: int) -> list[str]:
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await stand.line.page(cursor, limit, prefix, status)
            assert len(page.users) <= limit
            found += [user for user, _ in page.users]
            cursor = page.cursor
        return sorted(found)

    assert await pages("", None, 7) == sorted(names)
    assert await pages("a*", None, 10) == ["a*b", "a*c"]
    assert await pages("[x]", None, 1) == ["[x]1"]
    assert await pages("\\", None, 10) == ["\\1"]
    assert await pages("?", Status.ONLINE, 10) == ["?"]
    assert await pages("", Status.BUSY, 10) == ["a*c"]


async def test_a_server_that_is_full_is_read_and_its_windows_and_leases_wait(stand: Stand) -> None:
    await stand.begin()
    await stand.put(N1, stand.told(ANN, stand.connection()))
    stand.client.config_set("maxmemory-policy", "noeviction")
    stand.client.config_set("maxmemory", 1)
    assert await stand.shown() is Status.ONLINE
    assert (await stand.line.record(ANN)).record is not None
    with pytest.raises(failures.OutOfMemoryError):
        await stand.put(N1, stand.told(ANN))
    with pytest.raises(failures.OutOfMemoryError):
        await stand.line.sweep(100)
    stand.client.config_set("maxmemory", 0)
    stand.wait(LEASE)
    told = await stand.line.sweep(100)
    assert (told.answer, told.dead) == (Answer.HOLD, [])
