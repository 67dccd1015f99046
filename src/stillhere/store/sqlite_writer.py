"""The writer thread of the sqlite store: one connection, one transaction per batch, retention in between."""

from __future__ import annotations

import logging
import queue
import re
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import msgspec

from stillhere.store.sqlite_file import SQL, FileLock, Loaded, check_path, explain, open_file

_log = logging.getLogger("stillhere")

_SLICE = 1000
"""Rows that one step of the retention looks at: about two milliseconds, in which no batch is written."""

_USERS_SLICE = 100
_AGED_EVERY = 60.0
_COUNTED_USERS = 50_000


class Retention(msgspec.Struct, frozen=True):
    """What stays in the file."""

    timeline_entries: int = 200
    """Events per user."""
    log_entries: int = 200_000
    """Transitions."""
    keep: float = 7 * 86400.0
    """Seconds, for both."""


class Batch(msgspec.Struct, frozen=True):
    """All that changed since the last one; written as a whole or not at all."""

    seq: int
    """The last place of the log with it."""
    now: float
    """Unix time."""
    state: bytes
    clean: bool
    """The last one before a stop."""
    epoch: tuple[int, int]
    """Of this run, and the last place of the log before it."""
    records: list[tuple[str, bytes]]
    forgotten: list[tuple[str]]
    log: list[tuple[int, float, bytes]]
    """Place, time, entry."""
    timeline: list[tuple[int, str, float, bytes]]
    """Id, user, time, event."""
    marks: dict[str, bytes | None] = {}
    """By name; None forgets one."""


class PutMany:
    """A statement that puts one row, made into one for many.

    ``sqlite3`` gives the interpreter's lock away at each step of a statement and waits until it gets it back, and the
    loop wants it all the time: row by row, a batch would be as many handovers as it has rows.
    """

    _MOST = 64
    """Rows of one statement; the sizes are powers of two, so that a dozen prepared ones do."""

    def __init__(self, sql: str) -> None:
        """Take the statement for one row, with ``VALUES (?, …)`` in it."""
        self._before, self._row, self._after = re.split(r"(?<=VALUES )(\([?, ]+\))", sql)

    def __call__(self, connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
        """Put all rows, in their order."""
        start, size = 0, self._MOST
        while start < len(rows):
            while start + size > len(rows):
                size //= 2
            sql = self._before + ", ".join([self._row] * size) + self._after
            connection.execute(sql, [value for row in rows[start : start + size] for value in row])
            start += size


_PUT_RECORDS, _PUT_LOG, _PUT_TIMELINE = (PutMany(SQL[f"put {what}"]) for what in ("record", "log", "timeline"))

Done = Callable[[Batch, float, str | None], None]
"""Called in the thread after each batch, with the seconds it took and what went wrong, if anything."""


class SqliteWriter(threading.Thread):
    """Opens the file and writes batches, in order, until it is told to :meth:`close`."""

    def __init__(self, path: Path, retention: Retention, done: Done) -> None:
        """Prepare; ``start()`` begins with opening the file."""
        super().__init__(name="stillhere-sqlite", daemon=True)
        self.opened: Future[Loaded] = Future()
        """What the file had, or :class:`StoreRefused`."""
        self.closed: Future[None] = Future()
        self._path = path
        self._retention = retention
        self._done = done
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._trim = _Trim(retention)

    def submit(self, batch: Batch) -> None:
        """Hand over a batch; ``done`` is called when it is written or could not be."""
        self._batches.put(batch)

    def close(self) -> None:
        """Finish what was handed over, then close the file; ``closed`` says when."""
        self._batches.put(None)

    def run(self) -> None:
        """The thread."""
        lock = FileLock(self._path)
        self.opened.set_running_or_notify_cancel()
        self.closed.set_running_or_notify_cancel()
        try:
            check_path(self._path)
            lock.acquire()
            connection, loaded = open_file(self._path)
        except BaseException as error:  # the thread has nobody else to tell
            lock.release()
            self.opened.set_exception(error)
            self.closed.set_result(None)
            return
        self.opened.set_result(loaded)
        try:
            while (batch := self._batches.get()) is not None:
                began = time.perf_counter()
                problem = self._write(connection, batch)
                self._done(batch, time.perf_counter() - began, problem)
                if problem is None:
                    self._keep_small(connection, batch)
        finally:
            connection.close()
            lock.release()
            self.closed.set_result(None)

    def _write(self, connection: sqlite3.Connection, batch: Batch) -> str | None:
        """One transaction. Returns what went wrong, as a sentence."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(SQL["put state"], (batch.state, batch.clean))
            connection.execute(SQL["put epoch"], batch.epoch)
            _PUT_RECORDS(connection, batch.records)
            connection.executemany(SQL["forget record"], batch.forgotten)
            _PUT_LOG(connection, batch.log)
            _PUT_TIMELINE(connection, batch.timeline)
            # after what is new: whoever is forgotten by now, with them goes all that happened to them
            connection.executemany(SQL["forget timeline"], batch.forgotten)
            for name, value in batch.marks.items():
                if value is None:
                    connection.execute(SQL["forget mark"], (name,))
                else:
                    connection.execute(SQL["put mark"], (name, value))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _roll_back(connection)
            return explain(self._path, error)
        except Exception as error:  # a thread that died would leave everybody waiting for ever
            _roll_back(connection)
            _log.exception("a batch for %s failed", self._path)
            return f"{self._path} could not be written: {error}"
        return None

    def _keep_small(self, connection: sqlite3.Connection, batch: Batch) -> None:
        """At least one step of the retention per batch, more while no batch waits."""
        self._trim.note(batch)
        try:
            while self._trim.step(connection) and self._batches.empty():
                pass
        except sqlite3.Error as error:
            _roll_back(connection)
            _log.warning("old entries of %s were not deleted: %s", self._path, error)


class _Trim:
    """Which rows are too many or too old; deletes them in small steps, each its own transaction."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._slack = max(1, retention.timeline_entries // 4)
        self._grown: dict[str, int] = {}
        self._overgrown: deque[str] = deque()
        self._now = 0.0
        self._aged_at: float | None = None
        self._log_first: int | None = None
        self._log_last = 0

    def note(self, batch: Batch) -> None:
        """Count what a batch added."""
        self._now = batch.now
        if batch.log:
            self._log_last = batch.log[-1][0]
        grown = self._grown
        if len(grown) > _COUNTED_USERS:
            grown.clear()
        for _, user, _, _ in batch.timeline:
            # a user whom this run has not seen may have been left with too many by the last one: look at once
            grown[user] = count = grown.get(user, self._slack) + 1
            if count > self._slack:
                grown[user] = 0
                self._overgrown.append(user)

    def step(self, connection: sqlite3.Connection) -> bool:
        """Delete a slice of what is too much. Returns whether there may be more."""
        if self._overgrown:
            keep = self._retention.timeline_entries
            users = [self._overgrown.popleft() for _ in range(min(_USERS_SLICE, len(self._overgrown)))]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(SQL["trim timeline of user"], [(user, user, keep) for user in users])
            connection.execute("COMMIT")
            return True
        return self._trim_log(connection) or self._trim_aged(connection)

    def _trim_log(self, connection: sqlite3.Connection) -> bool:
        if self._log_first is None:
            oldest = connection.execute(SQL["oldest of log"], (1,)).fetchone()
            self._log_first = oldest[0] if oldest else self._log_last + 1
        surplus = self._log_last - self._log_first + 1 - self._retention.log_entries
        if surplus < min(_SLICE, max(1, self._retention.log_entries // 4)):
            return False
        last = self._log_first + min(surplus, _SLICE) - 1
        connection.execute(SQL["trim log"], (last,))
        self._log_first = last + 1
        return True

    def _trim_aged(self, connection: sqlite3.Connection) -> bool:
        """Time may have jumped between entries, so only what is old without a younger one before it goes."""
        if self._aged_at is not None and 0 <= self._now - self._aged_at < _AGED_EVERY:
            return False
        before = self._now - self._retention.keep
        more = False
        for table in ("log", "timeline"):
            rows = connection.execute(SQL[f"oldest of {table}"], (_SLICE,)).fetchall()
            aged = next((n for n, (_, at) in enumerate(rows) if at >= before), len(rows))
            if aged:
                connection.execute(SQL[f"trim {table}"], (rows[aged - 1][0],))
                more = more or aged == _SLICE
                if table == "log":
                    self._log_first = None
        if not more:
            self._aged_at = self._now
        return more


def _roll_back(connection: sqlite3.Connection) -> None:
    try:
        if connection.in_transaction:
            connection.rollback()
    except sqlite3.Error as error:  # the next BEGIN would say so too
        _log.warning("a transaction could not be rolled back: %s", error)
