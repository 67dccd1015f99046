"""What a store keeps for the readers of its log: a few bytes under a name, and the way back to before the start."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from stillhere.core.words import Cause, UserId
from stillhere.store.contract import Cursor, StoreUnavailable
from stillhere.store.sqlite_file import SCHEMA
from tests.contract.shared_place import SharedPlace
from tests.contract.stand import ALICE, BOB, Clock, Kept, Stand, make_sqlite, query

BYTES = bytes(range(256))


async def test_a_mark_is_what_was_last_set_and_nothing_before(stand: Stand) -> None:
    assert await stand.store.get_mark("hook") is None
    await stand.store.set_mark("hook", b"one")
    await stand.store.set_mark("other", BYTES)
    await stand.store.set_mark("hook", b"")
    assert (await stand.store.get_mark("hook"), await stand.store.get_mark("other")) == (b"", BYTES)


async def test_a_mark_can_be_forgotten(stand: Stand) -> None:
    await stand.store.set_mark("hook", b"one")
    await stand.store.set_mark("hook", None)
    await stand.store.set_mark("never there", None)
    assert await stand.store.get_mark("hook") is None


async def test_marks_change_nothing_of_what_is_told(stand: Stand) -> None:
    await stand.desk.open(ALICE)
    tip = await stand.store.tip()
    await stand.store.set_mark("hook", b"x" * 100_000)
    assert await stand.store.tip() == tip
    assert await stand.store.get_mark("hook") == b"x" * 100_000


async def test_marks_outlive_the_process(lasting: Stand) -> None:
    await lasting.store.set_mark("hook", BYTES)
    await lasting.kill()
    again = await lasting.again()
    try:
        assert await again.store.get_mark("hook") == BYTES
    finally:
        await again.store.stop()


async def test_nodes_of_a_shared_store_see_each_others_marks(shared: Stand) -> None:
    other = await shared.again("n2.first")
    try:
        await shared.store.set_mark("hook", b"n1")
        assert await other.store.get_mark("hook") == b"n1"
        await other.store.set_mark("hook", b"n2")
        assert await shared.store.get_mark("hook") == b"n2"
    finally:
        await other.store.stop()


async def test_a_mark_can_be_set_again_after_the_connection_was_lost(shared: Stand) -> None:
    assert isinstance(shared.make, SharedPlace)
    await shared.store.set_mark("hook", b"before")
    shared.make.fail_over()
    async with asyncio.timeout(10):
        while True:
            try:
                await shared.store.set_mark("hook", b"after")
                break
            except StoreUnavailable:
                await asyncio.sleep(0.01)
    assert await shared.store.get_mark("hook") == b"after"


async def test_a_reader_from_before_the_start_reads_on_without_a_gap(lasting: Stand) -> None:
    start = await lasting.store.tip()
    c = await lasting.desk.open(ALICE)
    await lasting.desk.end(ALICE, c, Cause.BYE, 0.0)
    await lasting.desk.open(BOB)
    await lasting.store.stop()
    again = await lasting.again()
    try:
        seen: list[UserId] = []
        at = start
        while not seen or seen[-1] != BOB:
            page = await again.store.read_back(at, limit=2)
            assert not page.gap and page.cursor != at
            seen += [entry.user for entry in page.entries]
            at = page.cursor
        assert seen == [ALICE, ALICE, BOB]
    finally:
        await again.store.stop()


@pytest.mark.parametrize("epochs", [-1, 1])
async def test_the_way_back_does_not_lead_into_another_stores_log(stand: Stand, epochs: int) -> None:
    await stand.desk.open(ALICE)
    tip = await stand.caught_up()
    page = await stand.store.read_back(Cursor(tip.epoch + epochs, 1))
    assert (page.gap, page.cursor, list(page.entries)) == (True, tip, [])


async def test_a_file_of_the_schema_before_marks_is_migrated(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "stillhere.db"
    connection = sqlite3.connect(path)
    connection.executescript((Path(__file__).parent / "schema_2.sql").read_text("utf-8"))
    connection.close()
    stand = await Stand(make_sqlite, tmp_path, clock, Kept()).start()
    await stand.store.set_mark("hook", b"one")
    assert await stand.store.get_mark("hook") == b"one"
    await stand.store.stop()
    (tmp_path / "new").mkdir()
    new = await Stand(make_sqlite, tmp_path / "new", clock, Kept()).start()
    await new.store.stop()
    names = "SELECT name FROM sqlite_schema ORDER BY name"
    assert query(path, names) == query(tmp_path / "new" / "stillhere.db", names)
    assert query(path, "PRAGMA user_version") == [(SCHEMA,)]


async def test_a_mark_that_the_disk_does_not_take_is_written_when_it_does(tmp_path: Path, clock: Clock) -> None:
    stand = await Stand(make_sqlite, tmp_path, clock, Kept()).start()
    path = tmp_path / "stillhere.db"
    blocker = "CREATE TRIGGER full BEFORE INSERT ON marks BEGIN SELECT RAISE(ABORT, 'full'); END"
    query(path, blocker)
    with pytest.raises(StoreUnavailable):
        await stand.store.set_mark("hook", b"one")
    query(path, "DROP TRIGGER full")
    async with asyncio.timeout(10):
        while await stand.store.get_mark("hook") is None:  # noqa: ASYNC110 - the file has no event
            await asyncio.sleep(0.005)
    assert await stand.store.get_mark("hook") == b"one"
    await stand.store.stop()
