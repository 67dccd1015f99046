"""What can be asked of a store: states, rooms, pages, timelines, and the log, in order and without holes."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from stillhere.core.events import Change, Contributed, GraceCancelled, GraceStarted, Returned, Transition
from stillhere.core.record import NOBODY
from stillhere.core.words import Availability, Cause, RoomName, Status, UserId
from stillhere.store.contract import Cursor
from tests.contract.stand import ALICE, ATTIC, BOB, CAROL, LOBBY, Stand


async def flap(stand: Stand, user: UserId, times: int) -> None:
    """Two transitions each time."""
    for _ in range(times):
        await stand.desk.end(user, await stand.desk.open(user), Cause.BYE, 0.0)


async def test_a_snapshot_has_every_user_that_was_asked_for(stand: Stand) -> None:
    await stand.desk.open(ALICE, availability=Availability.BUSY, meta={"a": 1}, info={"name": "Alice"})
    snapshot = await stand.store.snapshot([ALICE, BOB])
    assert snapshot.users[BOB] == NOBODY
    alice = snapshot.users[ALICE]
    assert (alice.status, alice.meta, alice.info) == (Status.BUSY, {"a": 1}, {"name": "Alice"})
    assert (alice.version, alice.changed_at) == (stand.first.seq + 1, stand.clock.now)
    assert snapshot.cursor == await stand.store.tip()


async def test_a_record_has_the_connections_and_is_none_for_an_unknown_user(stand: Stand) -> None:
    c = await stand.desk.open(ALICE)
    record = await stand.store.record(ALICE)
    assert record is not None
    assert [connection for _, connection in record.connections()] == [c]
    assert record.active_count == 1
    assert await stand.store.record(BOB) is None


async def test_a_room_has_its_members_with_the_metadata_of_each_connection(stand: Stand) -> None:
    a = await stand.desk.open(ALICE, "t1", rooms={LOBBY: {"seat": 1}})
    b = await stand.desk.open(ALICE, "t2", rooms={LOBBY: {"seat": 2}})
    await stand.desk.open(BOB, rooms={ATTIC: {}})
    room = await stand.store.room(LOBBY)
    assert list(room.members) == [ALICE]
    assert room.members[ALICE].metas == ((a.id, {"seat": 1}), (b.id, {"seat": 2}))
    assert room.cursor == await stand.store.tip()
    assert (await stand.store.room(RoomName("nowhere"))).members == {}


async def test_rooms_are_listed_in_the_order_of_their_names_page_by_page(stand: Stand) -> None:
    names = [RoomName(f"r{number}") for number in (3, 1, 2)]
    await stand.desk.open(ALICE, rooms={name: {} for name in names})
    await stand.desk.open(BOB, rooms={names[0]: {}})
    assert await stand.store.rooms("", 2) == [("r1", 1), ("r2", 1)]
    assert await stand.store.rooms("r2", 2) == [("r3", 2)]
    assert await stand.store.rooms("r3", 2) == []


async def test_pages_go_through_all_known_users_once(stand: Stand) -> None:
    users = [UserId(f"u{number:02}") for number in range(25)]
    random.Random(1).shuffle(users)
    for user in users:
        await stand.desk.open(user)
    seen: list[UserId] = []
    after: str | None = ""
    while after is not None:
        page = await stand.store.page(after, 10, "", None)
        seen += [user for user, _ in page.users]
        after = page.cursor
    assert (sorted(seen) if stand.place else seen) == sorted(users)


async def test_a_page_is_narrowed_by_prefix_and_status(stand: Stand) -> None:
    for name in ("ann", "anton", "bea"):
        c = await stand.desk.open(UserId(name))
        if name == "anton":
            await stand.desk.end(UserId(name), c, Cause.BYE, 0.0)
    assert sorted(u for u, _ in (await stand.store.page("", 10, "an", None)).users) == ["ann", "anton"]
    assert [u for u, _ in (await stand.store.page("", 10, "an", Status.OFFLINE)).users] == ["anton"]
    first = await stand.store.page("", 1, "", Status.ONLINE)
    assert first.cursor is not None
    rest = await stand.store.page(first.cursor, 10, "", Status.ONLINE)
    assert sorted(u for u, _ in first.users + rest.users) == ["ann", "bea"]


async def test_a_prefix_is_no_pattern(stand: Stand) -> None:
    for name in ("a*", "ab", "a?c", "[a]", "a\\b", "\u00e4 b"):
        await stand.desk.open(UserId(name))
    for prefix, found in (
        ("a*", ["a*"]),
        ("a?", ["a?c"]),
        ("[a", ["[a]"]),
        ("a\\", ["a\\b"]),
        ("\u00e4", ["\u00e4 b"]),
    ):
        assert [user for user, _ in (await stand.store.page("", 10, prefix, None)).users] == found


async def test_a_timeline_tells_what_happened_oldest_first(stand: Stand) -> None:
    c = await stand.desk.open(ALICE)
    await stand.desk.wait(1.0)
    await stand.desk.end(ALICE, c, Cause.GOING_AWAY)
    await stand.desk.wait(1.0)
    await stand.desk.open(ALICE)
    await stand.desk.open(BOB)
    start, now = stand.clock.now - 2.0, stand.clock.now
    entries = (await stand.store.timeline(ALICE, 0.0, 1e12, 100)).entries
    told = [Contributed, Transition, Contributed, GraceStarted, Contributed, Returned, GraceCancelled]
    assert [type(e) for e in entries] == told
    assert [e.at for e in entries] == [start, start, start + 1.0, start + 1.0, now, now, now]
    assert list((await stand.store.timeline(ALICE, start, now, 100)).entries) == list(entries[2:4])
    assert list((await stand.store.timeline(ALICE, 0.0, 1e12, 2)).entries) == list(entries[:2])
    assert list((await stand.store.timeline(CAROL, 0.0, 1e12, 2)).entries) == []


async def test_a_timeline_keeps_the_newest_entries(small: Stand) -> None:
    await flap(small, ALICE, 30)
    entries = (await small.store.timeline(ALICE, 0.0, 1e12, 100)).entries
    assert [e.version - small.first.seq for e in entries if isinstance(e, Transition)] == list(range(55, 61))


async def test_the_log_has_every_transition_in_order_without_holes(stand: Stand) -> None:
    start = await stand.store.tip()
    await flap(stand, ALICE, 10)
    await stand.desk.open(BOB, rooms={LOBBY: {}})
    log = await stand.log(start, limit=7)
    assert [e.version for e in log] == list(range(start.seq + 1, start.seq + 23))
    assert log == [e for e in stand.desk.events if isinstance(e, Transition)]
    assert [e.change for e in log[-2:]] == [Change.ONLINE, Change.JOINED]


async def test_a_reader_that_follows_the_news_gets_everything_once(stand: Stand) -> None:
    cursor, seen, news = await stand.store.tip(), list[int](), asyncio.Event()
    start = cursor.seq
    stand.store.on_news(news.set)

    async def follow(until: int) -> None:
        nonlocal cursor
        while not seen or seen[-1] < until:
            await news.wait()
            news.clear()
            page = await stand.store.read_log(cursor, 1000)
            assert not page.gap
            seen.extend(e.version for e in page.entries)
            cursor = page.cursor

    async def write(user: UserId) -> None:
        for _ in range(5):
            c = await stand.desk.open(user)
            await stand.desk.end(user, c, Cause.BYE, 0.0)

    async with asyncio.timeout(20):
        await asyncio.gather(follow(start + 400), *[write(UserId(f"u{number}")) for number in range(40)])
    assert seen == list(range(start + 1, start + 401))


async def test_watchers_hear_of_a_change_when_it_is_acknowledged_and_not_before(stand: Stand) -> None:
    heard: list[int] = []
    stand.store.on_news(lambda: heard.append(1))
    stand.desk.add(ALICE)
    start = await stand.store.tip()
    pending = stand.store.put([stand.desk.told(ALICE)])
    assert not heard
    assert not (await stand.store.read_log(start)).entries
    await pending
    assert [e.user for e in await stand.log(start)] == [ALICE]
    assert heard


async def test_the_cursor_of_a_snapshot_never_has_a_gap(stand: Stand) -> None:
    stand.desk.add(ALICE)
    pending = asyncio.ensure_future(stand.store.put([stand.desk.told(ALICE)]))
    stand.desk.add(BOB)
    later = stand.store.put([stand.desk.told(BOB)])  # in the stores of one process: applied, not acknowledged yet
    snapshot = await stand.store.snapshot([ALICE, BOB])
    seen = [user for user, shown in snapshot.users.items() if shown.status is Status.ONLINE]
    assert stand.place is not None or seen == [ALICE, BOB]
    page = await stand.store.read_log(snapshot.cursor)
    told = [entry.user for entry in page.entries]
    assert not page.gap and not set(told) & set(seen)
    if stand.place is None:  # in a server, a put may have come about between the two questions
        assert (told, page.cursor) == ([], snapshot.cursor)
    await pending
    await later
    await stand.desk.open(CAROL)
    unseen = [user for user in (ALICE, BOB, CAROL) if user not in seen]
    assert [e.user for e in await stand.log(snapshot.cursor)] == unseen


async def test_nothing_new_is_an_empty_page_at_the_same_place(stand: Stand) -> None:
    await stand.desk.open(ALICE)
    tip = await stand.store.tip()
    page = await stand.store.read_log(tip)
    assert (list(page.entries), page.gap, page.cursor, page.epoch) == ([], False, tip, tip.epoch)


async def test_a_cursor_that_was_trimmed_is_a_gap(small: Stand) -> None:
    start = await small.store.tip()
    await flap(small, ALICE, 60)
    await small.store.beat()
    await small.caught_up(await small.store.tip())
    page = await small.store.read_log(start)
    assert page.gap and not page.entries
    assert page.cursor == await small.store.tip()
    near = Cursor(start.epoch, page.cursor.seq - 30)
    assert [e.version for e in await small.log(near, limit=7)] == list(range(near.seq + 1, page.cursor.seq + 1))


@pytest.mark.parametrize(("epoch", "seq"), [(0, 1000), (1, 0), (1, 2), (-1, 2)])
async def test_a_cursor_of_the_future_or_of_another_store_is_a_gap(stand: Stand, epoch: int, seq: int) -> None:
    await flap(stand, ALICE, 2)
    tip = await stand.caught_up()
    asked = Cursor(tip.epoch + epoch, seq)
    page = await stand.store.read_log(asked)
    assert not page.entries
    if stand.place is not None and not epoch:  # a snapshot may be ahead of what this node has read
        assert (page.gap, page.cursor) == (False, asked)
    else:
        assert (page.gap, page.cursor) == (True, tip)


async def test_reads_change_nothing(stand: Stand) -> None:
    c = await stand.desk.open(ALICE, availability=Availability.AWAY, rooms={LOBBY: {"seat": 1}})
    await stand.desk.open(BOB, rooms={LOBBY: {}, ATTIC: {}})
    await stand.desk.open(CAROL, availability=Availability.INVISIBLE)
    await stand.desk.end(ALICE, c, Cause.GOING_AWAY)
    await stand.store.beat()
    before, tip, figures = stand.image(), await stand.store.tip(), stand.store.statistics()
    users = [ALICE, BOB, CAROL, UserId("nobody")]
    stand.clock.now += 60.0  # every window is over, and it is not for a reader to say so
    for number in range(2500 if stand.place is None else 250):  # each is a round trip there
        await stand.store.snapshot(users)
        await stand.store.record(users[number % 4])
        await stand.store.room(LOBBY)
        await stand.store.rooms("", 10)
        await stand.store.page("", 10, "", None)
        await stand.store.read_log(Cursor(tip.epoch, tip.seq - 1))
        stand.store.next_deadline()
        if number % 50 == 0:
            await stand.store.timeline(ALICE, 0.0, 1e12, 100)
    assert stand.image() == before
    assert await stand.store.tip() == tip
    if stand.place is not None:  # its round trips are counted
        figures = msgspec.structs.replace(figures, writes=stand.store.statistics().writes)
    assert stand.store.statistics() == figures
