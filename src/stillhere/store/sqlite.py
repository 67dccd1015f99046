"""The sqlite store: the ledger in memory, and in a file what a crash would take.

Every change is applied to the ledger at once. The loop then encodes whatever changed and hands it to the writer thread
as one batch; what changes while that is written gathers, and is the next batch. So a lone change waits for nothing, a
flood is written in few transactions, and the loop never waits for the disk::

    put ──▶ ledger ──▶ gathering ──hand over──▶ writing ──done──▶ waiters acknowledged, watchers told
                           ▲                                 │
                           └──────── next batch ◀────────────┘      failed: all of it gathers again, with a back-off

``docs/store.md`` has the reasoning, and what survives what.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from stillhere.core.events import Entry, Transition
from stillhere.core.grace import GracePolicy
from stillhere.core.leases import Limits
from stillhere.core.ledger import Ledger
from stillhere.core.record import Record
from stillhere.core.words import Incarnation, UserId
from stillhere.store.contract import Cursor, LogPage, StoreRefused, StoreStatistics, StoreUnavailable, TimelinePage
from stillhere.store.local import LOG_KEPT, LocalStore
from stillhere.store.sqlite_blob import Decoder, encode
from stillhere.store.sqlite_file import SQL, Loaded, connect, explain
from stillhere.store.sqlite_writer import Batch, Retention, SqliteWriter

_EVENTS_KEPT = 100_000
"""Events that wait for a disk that does not write; beyond that the oldest are lost, and readers see a gap."""

_BACK_OFF_MAX = 1.0

_Ack = str | None
"""What went wrong with a batch; None when it is written."""


class _Acknowledgement(asyncio.Future[_Ack]):
    """Of a batch: shared by all that wait for it, so one that is cancelled must not cancel the others.

    Its cancellation is delivered when the batch is done.
    """

    def cancel(self, msg: Any | None = None) -> bool:
        """Refuse."""
        return False


class SqliteStore(LocalStore):
    """The contract over a file; for one node, and as many restarts as it likes."""

    kind = "sqlite"

    def __init__(
        self,
        path: str | os.PathLike[str],
        now: Callable[[], float],
        *,
        policy: GracePolicy | None = None,
        limits: Limits | None = None,
        retention: Retention | None = None,
        log_kept: int = LOG_KEPT,
        back_off: float = 0.1,
    ) -> None:
        """Prepare; nothing is opened before :meth:`start`.

        Args:
            path: the file; made if it is not there.
            now: the time of the store, Unix seconds.
            policy: the windows for those whom the former run left behind.
            limits: what is remembered of users.
            retention: what is kept of the log and the timelines.
            log_kept: how many transitions are kept in memory too.
            back_off: seconds before a failed write is tried again; doubled up to one second.
        """
        self._retention = retention or Retention()
        super().__init__(
            now,
            policy=policy,
            limits=limits,
            timeline_entries=self._retention.timeline_entries,
            log_kept=log_kept,
        )
        # resolved, because two names of one file must meet at one lock
        self.path = Path(os.path.realpath(path))
        self._entry: Decoder[Transition] = Decoder(Transition)
        self._event: Decoder[Entry] = Decoder(Entry)
        self._writer: SqliteWriter | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._reader: sqlite3.Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gathering: _Acknowledgement | None = None
        self._writing: _Acknowledgement | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._first_back_off = back_off
        self._back_off = back_off
        self._unwritten: dict[UserId, None] = {}
        self._log_rows: list[tuple[int, float, bytes]] = []
        self._timeline_rows: list[tuple[int, str, float, bytes]] = []
        self._unwritten_marks: dict[str, bytes | None] = {}
        self._last_event = 0
        self._epoch_ends: dict[int, int] = {}
        self._began_after = 0
        self._stopping = False
        self._writes = 0
        self._write_seconds = 0.0
        self._problem: str | None = None

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self, incarnation: Incarnation, lease: float) -> None:
        """See :meth:`Store.start`."""
        try:
            await super().start(incarnation, lease)
        except BaseException as error:
            await self._close()
            if isinstance(error, StoreUnavailable):
                raise StoreRefused(str(error)) from error
            raise

    async def stop(self) -> None:
        """See :meth:`Store.stop`. The file says that it was a stop, not a crash."""
        if self._writer is None:
            return
        self._stopping = True
        try:
            await super().stop()
        finally:
            await self._close()

    async def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = SqliteWriter(self.path, self._retention, self._written)
        self._writer.start()
        loaded = await asyncio.wrap_future(self._writer.opened)
        self._take_over(loaded)
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="stillhere-sqlite-read")

    def _take_over(self, loaded: Loaded) -> None:
        self.ledger = Ledger(self.limits, loaded.state)
        self.ledger.load(loaded.records)
        self._former_clean = loaded.clean
        self._last_event = loaded.last_event
        self._began_after = self.ledger.state.seq
        # a run's part of the log ends where the next one's begins; what was not written by then, nobody was told
        ends = [began_after for _, began_after in loaded.epochs[1:]] + [self._began_after]
        self._epoch_ends = {epoch: end for (epoch, _), end in zip(loaded.epochs, ends, strict=False)}

    async def _close(self) -> None:
        writer, self._writer = self._writer, None
        readers, self._readers = self._readers, None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if readers is not None:
            await asyncio.get_running_loop().run_in_executor(readers, self._close_reader)
            readers.shutdown(wait=False)
        if writer is not None:
            writer.close()
            await asyncio.wrap_future(writer.closed)
        for waiting in (self._writing, self._gathering):
            if waiting is not None and not waiting.done():
                waiting.set_result(self._problem or f"{self.path} is closed")
        self._writing = self._gathering = None

    # -- writing ------------------------------------------------------------------------------------------------

    def _note(self, entries: Sequence[Entry]) -> None:
        """Entries never change, so they are encoded at once and only their bytes wait."""
        for entry in entries:
            self._last_event += 1
            blob = encode(entry)
            if blob is None:
                continue
            self._timeline_rows.append((self._last_event, entry.user, entry.at, blob))
            if isinstance(entry, Transition):
                self._log_rows.append((entry.version, entry.at, blob))

    async def _commit(self) -> None:
        """Wait for the batch that covers all changes made until now.

        Raises:
            StoreUnavailable: it could not be written; it will be tried again.
        """
        if self._writer is None or self._loop is None:
            raise StoreUnavailable(f"{self.path} is not open")
        waiting = self._gathering
        if waiting is None:
            waiting = self._gathering = _Acknowledgement(loop=self._loop)
            if self._writing is None and self._retry is None:
                self._loop.call_soon(self._hand_over)  # at the end of this turn, with all that it changes
        problem = await waiting
        if problem is not None:
            raise StoreUnavailable(problem)

    def _hand_over(self) -> None:
        """Encode what changed, and let the thread write it."""
        self._retry = None
        if self._writer is None or self._loop is None:
            return
        self._writing, self._gathering = self._gathering or _Acknowledgement(loop=self._loop), None
        ledger = self.ledger
        dirty = dict(ledger.take_dirty())
        for user in self._unwritten:
            dirty.setdefault(user, ledger.records.get(user))
        self._unwritten = dict.fromkeys(dirty)
        log, self._log_rows = self._log_rows, []
        timeline, self._timeline_rows = self._timeline_rows, []
        records, forgotten = _rows(dirty)
        marks, self._unwritten_marks = self._unwritten_marks, {}
        state = encode(ledger.state)
        assert state is not None, "numbers, and names of our own making"
        batch = Batch(
            seq=ledger.state.seq,
            now=self._now(),
            state=state,
            clean=self._stopping,
            epoch=(ledger.state.epoch, self._began_after),
            records=records,
            forgotten=forgotten,
            log=log,
            timeline=timeline,
            marks=marks,
        )
        self._writer.submit(batch)

    def _written(self, batch: Batch, seconds: float, problem: str | None) -> None:
        """In the thread: a batch is done with."""
        assert self._loop is not None, "a batch comes from a loop"
        try:
            self._loop.call_soon_threadsafe(self._settle, batch, seconds, problem)
        except RuntimeError:
            pass  # the loop was closed over our heads; whoever waited is gone with it

    def _settle(self, batch: Batch, seconds: float, problem: str | None) -> None:
        """On the loop again: acknowledge, go on with what has gathered, tell the watchers."""
        waiting, self._writing = self._writing, None
        self._problem = problem
        self._writes += 1
        self._write_seconds += seconds
        if waiting is not None and not waiting.done():
            waiting.set_result(problem)
        if problem is not None:
            self._take_back(batch)
            return
        self._unwritten = {}
        self._back_off = self._first_back_off
        if self._gathering is not None:
            self._hand_over()
        self._publish(batch.seq)

    def _take_back(self, batch: Batch) -> None:
        """Nothing of the batch is in the file: it gathers again, and is tried again even if nobody waits."""
        self._log_rows = [*batch.log, *self._log_rows][-_EVENTS_KEPT:]
        self._timeline_rows = [*batch.timeline, *self._timeline_rows][-_EVENTS_KEPT:]
        self._unwritten_marks = {**batch.marks, **self._unwritten_marks}
        if self._loop is not None and self._writer is not None:
            self._retry = self._loop.call_later(self._back_off, self._hand_over)
            self._back_off = min(2 * self._back_off, _BACK_OFF_MAX)

    async def set_mark(self, name: str, value: bytes | None) -> None:
        """See :meth:`Store.set_mark`: part of the next batch."""
        self._unwritten_marks[name] = value
        await self._commit()

    # -- reading ------------------------------------------------------------------------------------------------

    async def timeline(self, user: UserId, after: float, before: float, limit: int) -> TimelinePage:
        """See :meth:`Store.timeline`."""
        entries = self._retention.timeline_entries
        rows = await self._read("read timeline", user, entries, after, before, limit)
        return TimelinePage([self._event(blob) for (blob,) in rows])

    async def get_mark(self, name: str) -> bytes | None:
        """See :meth:`Store.get_mark`: as the file has it."""
        rows = await self._read("get mark", name)
        return bytes(rows[0][0]) if rows else None

    async def _knows(self, cursor: Cursor) -> bool:
        end = self._epoch_ends.get(cursor.epoch)
        return end is not None and cursor.seq <= end

    async def _read_old(self, after: Cursor, limit: int, tip: Cursor) -> LogPage:
        rows = await self._read("read log", after.seq, tip.seq, limit)
        entries = []
        for expected, (seq, blob) in enumerate(rows, after.seq + 1):
            if seq != expected:
                break  # the next page begins with a gap
            entries.append(self._entry(blob))
        if not entries:
            return LogPage(tip.epoch, (), tip, gap=True)
        return LogPage(tip.epoch, entries, Cursor(tip.epoch, entries[-1].version))

    async def _read(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a query of ``schema.sql`` beside the loop.

        Raises:
            StoreUnavailable: the file cannot be read, or is not open.
        """
        if self._readers is None:
            raise StoreUnavailable(f"{self.path} is not open")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._query, SQL[query], parameters)
        except sqlite3.Error as error:
            raise StoreUnavailable(explain(self.path, error)) from error

    def _query(self, sql: str, parameters: tuple[object, ...]) -> list[tuple[Any, ...]]:
        if self._reader is None:
            self._reader = connect(self.path)
            self._reader.execute("PRAGMA query_only=ON")
        return self._reader.execute(sql, parameters).fetchall()

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def statistics(self) -> StoreStatistics:
        """See :meth:`Store.statistics`."""
        return msgspec.structs.replace(
            super().statistics(),
            writes=self._writes,
            write_seconds=self._write_seconds,
            backlog=len(self._unwritten) + len(self._timeline_rows),
            reachable=self._writer is not None and self._problem is None,
        )


def _rows(dirty: Mapping[UserId, Record | None]) -> tuple[list[tuple[str, bytes]], list[tuple[str]]]:
    """Records to write, and users to delete."""
    records: list[tuple[str, bytes]] = []
    forgotten: list[tuple[str]] = []
    for user, record in dirty.items():
        if record is None:
            if user.isascii() or user.encode(errors="replace").decode() == user:  # else it never had a row
                forgotten.append((user,))
        elif (blob := encode(record)) is not None:
            records.append((user, blob))
    return records, forgotten
