"""The file of the sqlite store: what it takes and refuses, what it keeps, and a disk that fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stillhere.core.events import Transition
from stillhere.core.leases import Limits
from stillhere.core.ledger import Ledger
from stillhere.core.words import Cause, Incarnation, Status, UserId
from stillhere.store import sqlite_writer
from stillhere.store.contract import Cursor, StoreRefused, StoreUnavailable
from stillhere.store.sqlite import SqliteStore
from stillhere.store.sqlite_file import APPLICATION_ID, SCHEMA, SQL
from tests.contract.stand import ALICE, BOB, LEASE, LOBBY, NODE, Clock, Desk, Kept, Stand, changes, make_sqlite, query


async def refusal(path: Path) -> str:
    """The sentence with which a path is refused; the attempt leaves nothing locked."""
    store = SqliteStore(path, Clock())
    with pytest.raises(StoreRefused) as caught:
        await store.start(NODE, LEASE)
    with pytest.raises(StoreUnavailable, match="is not open"):
        await store.timeline(ALICE, 0.0, 1.0, 1)
    assert not store.statistics().reachable
    await store.stop()
    return str(caught.value)


# -- what is refused --------------------------------------------------------------------------------------------


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert await refusal(tmp_path) == (
        f"{tmp_path} is a directory; name a file in it: sqlite:///{tmp_path}/stillhere.db"
    )


async def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    said = await refusal(tmp_path / "no" / "stillhere.db")
    assert said == f"the folder {tmp_path / 'no'} does not exist; make it, or name another file in store.url"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is a folder in which nobody, not even root, makes files")
async def test_a_path_that_cannot_be_written_is_refused() -> None:
    said = await refusal(Path("/proc/stillhere.db"))
    assert said.startswith("/proc/stillhere.db.lock cannot be written (")
    assert "let the user of this process write the folder /proc" in said


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Root may write everything: be somebody else meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.name != "posix", reason="only there a file's mode says who may write it")
async def test_a_file_that_cannot_be_written_is_refused(file: Stand) -> None:
    await file.store.stop()
    with tempfile.TemporaryDirectory() as folder:  # not below pytest's own, which nobody else may enter
        path = Path(shutil.copy(file.folder / "stillhere.db", folder))
        path.chmod(0o444)
        path.parent.chmod(0o777)
        with nobody():
            said = await refusal(path)
        assert said.startswith(f"{path} cannot be written (")
        assert "let the user of this process write the file and its folder" in said


async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but of some length\n" * 100)
    assert await refusal(path) == f"{path} is not a SQLite database; name another file in store.url"
    assert path.read_text().startswith("not a database")


async def test_the_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    query(path, "CREATE TABLE theirs (x)")
    assert await refusal(path) == f"{path} is the database of another program; name another file in store.url"
    assert query(path, "SELECT name FROM sqlite_schema") == [("theirs",)]
    assert query(path, "PRAGMA journal_mode") == [("delete",)]


async def test_a_newer_schema_is_refused_with_both_numbers(file: Stand) -> None:
    await file.store.stop()
    path = file.folder / "stillhere.db"
    query(path, f"PRAGMA user_version = {SCHEMA + 5}")
    said = await refusal(path)
    assert f"has schema {SCHEMA + 5}" in said and f"knows schemas up to {SCHEMA}" in said
    assert query(path, "PRAGMA user_version") == [(SCHEMA + 5,)]


async def test_a_damaged_file_is_refused(file: Stand) -> None:
    for number in range(200):
        await file.desk.open(UserId(f"u{number}"), meta={"filler": "x" * 200})
    await file.store.stop()
    path = file.folder / "stillhere.db"
    content = bytearray(path.read_bytes())
    content[8192:20480] = os.urandom(12288)
    path.write_bytes(content)
    said = await refusal(path)
    assert said.startswith(f"{path} is damaged (")
    assert "restore a copy, or move it away together with stillhere.db-wal and stillhere.db-shm" in said


async def test_a_record_that_cannot_be_read_is_refused(file: Stand) -> None:
    await file.desk.open(ALICE)
    await file.store.stop()
    path = file.folder / "stillhere.db"
    query(path, "UPDATE records SET record = X'93010203'")
    assert "is damaged (a record cannot be read" in await refusal(path)


async def test_a_second_store_on_the_same_file_is_refused(file: Stand, tmp_path: Path) -> None:
    path = tmp_path / "stillhere.db"
    other_name = tmp_path / "link.db"
    other_name.symlink_to(path)
    for name in (path, other_name):
        said = await refusal(name)
        assert said.startswith(f"{path} is in use by another process (pid {os.getpid()}); stop that one")
    await file.desk.open(ALICE)  # the first one goes on
    await file.store.stop()
    await (await file.again()).store.stop()


_OPEN = """
import asyncio, sys, time
from stillhere.store.open import open_store
async def main():
    store = open_store("sqlite:///" + sys.argv[1], time.time)
    await store.start("n2.x", 15.0)
    print("open", flush=True)
    sys.stdin.read()
asyncio.run(main())
"""


async def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "stillhere.db"
    with subprocess.Popen(
        [sys.executable, "-c", _OPEN, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        assert f"(pid {child.pid})" in await refusal(path)
        child.kill()
        child.wait()
    store = SqliteStore(path, Clock())
    await store.start(NODE, LEASE)
    await store.stop()


# -- schemas ----------------------------------------------------------------------------------------------------


def make_schema_1(path: Path, clock: Clock) -> list[Transition]:
    """A file as schema 1 had it: alice online, bob offline. Returns its log."""
    ledger = Ledger(Limits())
    desk = Desk(SqliteStore(path, clock), clock)
    ledger.hello(clock.now, "first")
    ledger.join(clock.now, NODE, 1, 1e10)
    desk.add(ALICE, rooms={LOBBY: {}})
    gone = desk.add(BOB)
    ledger.put(clock.now, NODE, 1, [desk.told(ALICE), desk.told(BOB)])
    del desk.connections[BOB][gone.id]
    ledger.put(clock.now, NODE, 1, [desk.told(BOB, [desk.ending(gone, Cause.BYE, 0.0)])])
    events = ledger.take_events()
    encode = msgspec.msgpack.encode
    log = [e for e in events if isinstance(e, Transition)]
    connection = sqlite3.connect(path)
    connection.executescript(Path(__file__).with_name("schema_1.sql").read_text("utf-8"))
    connection.execute("INSERT INTO state VALUES (1, ?)", (encode(ledger.state),))
    rows = [(user, encode(record)) for user, record in ledger.records.items()]
    connection.executemany("INSERT INTO records VALUES (?, ?)", rows)
    entries = [(e.version, ledger.state.epoch, e.at, encode(e)) for e in log]
    connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", entries)
    told = [(n, e.user, e.at, encode(e)) for n, e in enumerate(events, 1)]
    connection.executemany("INSERT INTO timeline VALUES (?, ?, ?, ?)", told)
    connection.commit()
    connection.close()
    return log


async def test_a_file_of_schema_1_is_migrated_with_all_it_has(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "stillhere.db"
    log = make_schema_1(path, clock)
    (state,) = query(path, "SELECT epoch FROM log LIMIT 1")
    clock.now += 600.0
    stand = await Stand(make_sqlite, tmp_path, clock, Kept()).start(Incarnation("n1.second"))
    users = (await stand.store.snapshot([ALICE, BOB])).users
    assert [s.status for s in users.values()] == [Status.ONLINE, Status.OFFLINE]
    assert list((await stand.store.room(LOBBY)).members) == [ALICE]
    epoch = state[0]
    assert isinstance(epoch, int)
    assert await stand.log(Cursor(epoch, 0)) == log
    assert (await stand.store.timeline(BOB, 0.0, 1e12, 10)).entries == [e for e in log if e.user == BOB]
    assert changes(await stand.desk.wait(31.0))[0] == (ALICE, "PRESENCE_OFFLINE", "node_lost")
    await stand.store.stop()


async def test_a_migrated_file_has_the_tables_of_a_new_one(tmp_path: Path, clock: Clock) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    make_schema_1(old, clock)
    for path in (old, new):
        store = SqliteStore(path, clock)
        await store.start(NODE, LEASE)
        await store.stop()

    def tables(path: Path) -> dict[object, list[tuple[object, ...]]]:
        names = [name for (name,) in query(path, "SELECT name FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")]
        return {name: query(path, f"SELECT * FROM pragma_table_xinfo('{name}')") for name in names}

    assert tables(old) == tables(new)
    for path in (old, new):
        assert query(path, "PRAGMA user_version") == [(SCHEMA,)]
        assert query(path, "PRAGMA application_id") == [(APPLICATION_ID,)]
        assert query(path, "PRAGMA journal_mode") == [("wal",)]


async def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "stillhere.db"
    make_schema_1(path, clock)
    query(path, "CREATE TABLE timeline_of_user (in_the_way)")
    before = query(path, "SELECT name, sql FROM sqlite_schema")
    assert "cannot be used" in await refusal(path)
    assert query(path, "SELECT name, sql FROM sqlite_schema") == before
    assert query(path, "PRAGMA user_version") == [(1,)]


# -- what is kept -----------------------------------------------------------------------------------------------


async def test_a_stopped_store_leaves_one_file_with_everything(file: Stand) -> None:
    await file.desk.open(ALICE)
    await file.store.stop()
    path = file.folder / "stillhere.db"
    assert not path.with_name("stillhere.db-wal").exists()
    assert query(path, "SELECT user FROM records") == [(ALICE,)]
    assert query(path, "SELECT clean FROM state") == [(1,)]


async def test_changes_that_gather_while_one_is_written_are_one_commit(file: Stand) -> None:
    writes = file.store.statistics().writes
    users = [UserId(f"u{number}") for number in range(500)]
    for user in users:
        file.desk.add(user)
    await asyncio.gather(*[file.store.put([file.desk.told(user)]) for user in users])
    assert file.store.statistics().writes == writes + 1
    await file.store.stop()


async def test_a_number_of_any_size_in_the_metadata_survives(file: Stand) -> None:
    meta = {"big": 10**30, "small": -(10**40), "deep": [{"big": 2**64}]}
    await file.desk.open(ALICE, meta=meta, rooms={LOBBY: meta})
    await file.desk.open(BOB)
    start = Cursor((await file.store.tip()).epoch, 0)
    await file.kill()
    next_run = await file.again()
    users = (await next_run.store.snapshot([ALICE, BOB])).users
    assert (users[ALICE].meta, users[BOB].status) == (meta, Status.ONLINE)
    assert (await next_run.store.room(LOBBY)).members[ALICE].metas[0][1] == meta
    assert [e.shown.meta for e in await next_run.log(start) if e.shown is not None] == [meta, None]
    entries = (await next_run.store.timeline(ALICE, 0.0, 1e12, 10)).entries
    assert [e.shown.meta for e in entries if isinstance(e, Transition) and e.shown is not None] == [meta]
    await next_run.store.stop()


@pytest.mark.parametrize("user", [ALICE, UserId("half \ud800 a pair")])
async def test_text_that_cannot_be_written_down_harms_nobody_else(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, user: UserId
) -> None:
    stand = await Stand(make_sqlite, tmp_path, clock, Kept(limits=Limits(remember=10.0))).start()
    c = await stand.desk.open(user, info={"name": "\ud800"})
    assert "cannot be written down" in caplog.text
    await stand.desk.open(BOB)
    await stand.desk.end(user, c, Cause.BYE, 0.0)
    await stand.desk.wait(12.0)  # and it is forgotten
    assert await stand.store.record(user) is None
    assert stand.store.statistics().reachable
    await stand.kill()
    next_run = await stand.again()
    assert [known for known, _ in (await next_run.store.page("", 10, "", None)).users] == [BOB]
    await next_run.store.stop()


async def test_a_forgotten_user_is_deleted(tmp_path: Path, clock: Clock) -> None:
    stand = await Stand(make_sqlite, tmp_path, clock, Kept(limits=Limits(remember=100.0))).start()
    await stand.desk.end(ALICE, await stand.desk.open(ALICE), Cause.BYE, 0.0)
    await stand.desk.open(BOB)
    await stand.desk.wait(101.0)
    assert await stand.store.record(ALICE) is None
    await stand.store.stop()
    assert query(tmp_path / "stillhere.db", "SELECT user FROM records") == [(BOB,)]


async def test_the_log_and_the_timelines_are_kept_small(small_file: Stand) -> None:
    for number in range(60):
        user = UserId(f"u{number % 3}")
        await small_file.desk.end(user, await small_file.desk.open(user), Cause.BYE, 0.0)
    await small_file.store.stop()
    path = small_file.folder / "stillhere.db"
    ((first, last, rows),) = query(path, "SELECT MIN(seq), MAX(seq), COUNT(*) FROM log")
    assert (last, rows) == (120, 121 - int(str(first)))
    assert 40 <= int(str(rows)) <= 52
    counts = [int(str(n)) for _, n in query(path, "SELECT user, COUNT(*) FROM timeline GROUP BY user")]
    assert len(counts) == 3
    assert all(12 <= n <= 16 for n in counts)


async def test_a_next_run_trims_what_the_last_one_left_over(small_file: Stand) -> None:
    run = small_file
    for number in range(30):
        await run.desk.end(ALICE, await run.desk.open(ALICE), Cause.BYE, 0.0)
        await run.store.stop()
        run = await small_file.again(f"n1.{number}")
    await run.store.stop()
    ((count,),) = query(small_file.folder / "stillhere.db", "SELECT COUNT(*) FROM timeline")
    assert 12 <= int(str(count)) <= 16


async def test_what_is_old_goes_in_slices(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writer, "_SLICE", 7)
    stand = await Stand(make_sqlite, tmp_path, clock, Kept()).start()
    for number in range(50):
        await stand.desk.open(UserId(f"u{number}"))
    clock.now += 8 * 86400.0
    await stand.desk.open(ALICE)
    path = tmp_path / "stillhere.db"
    left = "SELECT (SELECT count(*) FROM log) + (SELECT count(*) FROM timeline)"
    async with asyncio.timeout(10):  # the writer goes on slice by slice while it has nothing else to do
        while query(path, left) != [(3,)]:  # noqa: ASYNC110 - another thread's work, seen in the file
            await asyncio.sleep(0.005)
    await stand.store.stop()
    assert query(path, "SELECT seq FROM log") == [(51,)]
    assert query(path, "SELECT user FROM timeline") == [(ALICE,), (ALICE,)]


@pytest.fixture
async def small_file(tmp_path: Path, clock: Clock) -> Stand:
    return await Stand(make_sqlite, tmp_path, clock, Kept(log=40, timeline=12)).start()


# -- many rows at once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 127, 300])
def test_however_many_rows_there_are_each_is_put_once_and_few_statements_are_run(count: int) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, at REAL, entry BLOB)")
    connection.execute("INSERT INTO log VALUES (1, 0.5, x'00')")  # of a commit that failed, and yet reached the disk
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    rows = [(n, n + 0.25, bytes([n % 256])) for n in range(1, count + 1)]
    sqlite_writer.PutMany(SQL["put log"])(connection, rows)
    connection.set_trace_callback(None)
    there = connection.execute("SELECT seq, at, entry FROM log ORDER BY seq").fetchall()
    assert there == (rows or [(1, 0.5, b"\0")])
    assert len([said for said in statements if "INSERT" in said]) == count // 64 + (count % 64).bit_count()
