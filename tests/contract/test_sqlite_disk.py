"""A disk that is slow, full, and has room again: what the sqlite store acknowledges, and what it keeps."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable

import pytest

from stillhere.core.words import Status, UserId
from stillhere.store import sqlite_writer
from stillhere.store.contract import Cursor, StoreUnavailable
from tests.contract.stand import ALICE, BOB, Stand, changes, query


async def test_while_the_disk_is_slow_the_loop_goes_on_and_changes_gather(
    file: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, write = threading.Event(), sqlite_writer.SqliteWriter._write

    def slowly(
        writer: sqlite_writer.SqliteWriter, connection: sqlite3.Connection, batch: sqlite_writer.Batch
    ) -> str | None:
        assert slow.wait(20)
        return write(writer, connection, batch)

    monkeypatch.setattr(sqlite_writer.SqliteWriter, "_write", slowly)
    writes, start = file.store.statistics().writes, await file.store.tip()
    users = [UserId(f"u{number}") for number in range(50)]
    pending = []
    for user in users:
        file.desk.add(user)
        pending.append(asyncio.ensure_future(file.store.put([file.desk.told(user)])))
        await asyncio.sleep(0)  # each in a turn of its own
        assert (await file.store.snapshot([user])).users[user].status is Status.ONLINE
    assert not any(put.done() for put in pending)
    assert not (await file.store.read_log(start)).entries
    slow.set()
    await asyncio.gather(*pending)
    assert file.store.statistics().writes == writes + 2
    assert len(await file.log(start)) == 50
    await file.store.stop()


async def fill(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[[], None], Stand]:
    """Start a run whose file may not grow. Returns what gives it room again, and the run."""
    await stand.store.stop()
    limit: dict[str, int] = {}
    write = sqlite_writer.SqliteWriter._write

    def limited(
        writer: sqlite_writer.SqliteWriter, connection: sqlite3.Connection, batch: sqlite_writer.Batch
    ) -> str | None:
        if limit:  # SQLite itself then says that the disk is full
            connection.execute(f"PRAGMA max_page_count = {limit['pages']}")
        return write(writer, connection, batch)

    monkeypatch.setattr(sqlite_writer.SqliteWriter, "_write", limited)
    run = await stand.again()
    limit["pages"] = 1  # SQLite takes the present size instead: no page more

    def give_room() -> None:
        limit["pages"] = 1 << 30

    return give_room, run


async def test_a_full_disk_acknowledges_nothing_and_loses_nothing(file: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    await file.desk.open(ALICE)
    give_room, run = await fill(file, monkeypatch)
    start = await run.store.tip()
    users = [UserId(f"u{number}") for number in range(300)]
    said: list[str] = []
    for user in users:
        run.desk.add(user, meta={"filler": "x" * 100})
        try:
            await run.desk.put(run.desk.told(user))
        except StoreUnavailable as error:
            said.append(str(error))
            if len(said) == 3:
                break
    assert len(said) == 3, "the disk was never full"
    assert all("cannot grow" in sentence and "make room on its disk" in sentence for sentence in said)
    assert not run.store.statistics().reachable
    assert run.store.statistics().backlog > 0
    told = len(await run.log(start))
    news = asyncio.Event()
    run.store.on_news(news.set)
    give_room()
    async with asyncio.timeout(10):
        await news.wait()  # the store tries again by itself
    assert run.store.statistics().reachable
    log = await run.log(start)
    assert len(log) == told + 3
    assert [e.version for e in log] == list(range(start.seq + 1, start.seq + 1 + len(log)))
    assert run.store.statistics().backlog == 0
    outcome = await run.store.sweep()
    assert len(changes(outcome.events)) == 3, "what nobody was told of is told by the next that succeeds"
    await run.kill()
    assert query(file.folder / "stillhere.db", "PRAGMA integrity_check") == [("ok",)]
    last = await file.again("n1.third")
    opened = [user for user in users if user in run.desk.connections]
    assert {s.status for s in (await last.store.snapshot(opened)).users.values()} == {Status.ONLINE}
    await last.store.stop()


async def test_a_put_repeated_after_a_failure_is_acknowledged(file: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    give_room, run = await fill(file, monkeypatch)
    run.desk.add(BOB, meta={"filler": "x" * 100_000})
    told = run.desk.told(BOB)
    with pytest.raises(StoreUnavailable):
        await run.desk.put(told)
    give_room()
    assert changes((await run.desk.put(told)).events) == [(BOB, "PRESENCE_ONLINE", "connection_open")]
    await run.kill()
    last = await file.again("n1.third")
    assert (await last.store.snapshot([BOB])).users[BOB].status is Status.ONLINE
    await last.store.stop()


async def test_a_stop_on_a_full_disk_says_so_and_closes(file: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = await fill(file, monkeypatch)
    run.desk.add(BOB, meta={"filler": "x" * 100_000})
    with pytest.raises(StoreUnavailable):
        await run.desk.put(run.desk.told(BOB))
    with pytest.raises(StoreUnavailable, match="cannot grow"):
        await run.store.stop()
    monkeypatch.undo()
    last = await file.again("n1.third")
    assert (await last.store.snapshot([BOB])).users[BOB].status is Status.OFFLINE
    await last.store.stop()


async def test_events_that_were_lost_to_a_long_failure_are_a_gap(file: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillhere.store.sqlite._EVENTS_KEPT", 10)
    give_room, run = await fill(file, monkeypatch)
    start = await run.store.tip()
    run.desk.add(BOB, meta={"filler": "x" * 100_000})
    with pytest.raises(StoreUnavailable):
        await run.desk.put(run.desk.told(BOB))
    users = [UserId(f"u{number}") for number in range(20)]
    for user in users:
        run.desk.add(user)
    results = await asyncio.gather(*[run.desk.put(run.desk.told(user)) for user in users], return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    give_room()
    await run.store.sweep()
    assert (await run.store.read_log(start)).gap
    tip = await run.store.tip()
    assert len(await run.log(Cursor(tip.epoch, tip.seq - 10))) == 10
    await run.store.stop()
