"""The file of the sqlite store: whose it is, whether it is sound, which schema it has, what is in it.

Everything that is wrong with it ends here, at the start, as :class:`StoreRefused` with a sentence for the operator.
"""

from __future__ import annotations

import importlib.resources
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import msgspec

from stillhere.core.leases import LedgerState
from stillhere.core.record import Record
from stillhere.store.contract import StoreRefused
from stillhere.store.sqlite_blob import Decoder

try:
    import fcntl
except ImportError:  # Windows: SQLite's own locks keep the file whole, and nothing tells two servers apart
    fcntl = None  # type: ignore[assignment]

SCHEMA = 3
"""The schema that this version writes; it migrates older ones and refuses newer ones."""

APPLICATION_ID = 0x53744C68
"""``StLh``: tells our files from those of other programs."""

EPOCHS_KEPT = 1000
"""So many earlier runs' cursors can be continued."""

_CHECKED_BYTES = 256 << 20
"""Files up to this size are checked whole at the start: half a second. In a larger one only what is loaded is."""

_BUSY_MS = 5000
_WAL_PAGES = 1000
_WAL_BYTES = 64 << 20


def _read_sql() -> Mapping[str, str]:
    text = importlib.resources.files("stillhere.store").joinpath("schema.sql").read_text("utf-8")
    sections = text.split("\n-- name: ")[1:]
    return {name.strip(): body.strip() for name, _, body in (section.partition("\n") for section in sections)}


SQL = _read_sql()
"""The sections of ``schema.sql``."""


class Loaded(msgspec.Struct, frozen=True):
    """What a former run left."""

    state: LedgerState | None
    """None for a new file."""
    records: list[Record]
    epochs: list[tuple[int, int]]
    """Of every former run its epoch, and the last place of the log before it; oldest first."""
    last_event: int
    """The highest id in the timelines."""
    clean: bool
    """Whether the former run was stopped, rather than killed."""


class FileLock:
    """Only one process at a time has the file. The lock goes with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        """Name the file that is to be locked; :meth:`acquire` does it."""
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            StoreRefused: another process has it, or the lock file cannot be written.
        """
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreRefused(
                f"{lock} cannot be written ({error.strerror}); let the user of this process write the folder "
                f"{lock.parent}, or name another file in store.url"
            ) from error
        if fcntl is not None:
            try:
                # flock, not lockf: a second store in the same process is refused too
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
                os.close(descriptor)
                raise StoreRefused(
                    f"{self.path} is in use by another process{f' ({owner})' if owner else ''}; stop that one, or "
                    "name another file in store.url: a file serves one node"
                ) from error
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it back. The lock file stays: whoever removed it could lock out nobody."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def open_file(path: Path) -> tuple[sqlite3.Connection, Loaded]:
    """Open or make the file, bring it to this version's schema, and load what it has.

    Args:
        path: locked by the caller.

    Raises:
        StoreRefused: with what is wrong and what to do about it.
    """
    connection = None
    try:
        connection = connect(path)
        _claim(connection, path)
        _migrate(connection, path)
        connection.execute("PRAGMA journal_mode=WAL")
        _check(connection, path)
        return connection, _load(connection, path)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise StoreRefused(explain(path, error)) from error
        raise


def check_path(path: Path) -> None:
    """Find out what is wrong with a path before SQLite does, whose words are fewer.

    Raises:
        StoreRefused: it names a directory, or its folder is not there.
    """
    if path.is_dir():
        raise StoreRefused(f"{path} is a directory; name a file in it: sqlite:///{path / 'stillhere.db'}")
    if not path.parent.is_dir():
        raise StoreRefused(f"the folder {path.parent} does not exist; make it, or name another file in store.url")


def connect(path: Path) -> sqlite3.Connection:
    """A connection with the settings that all of them need; transactions are begun by hand."""
    connection = sqlite3.connect(path, timeout=_BUSY_MS / 1000, isolation_level=None)
    # NORMAL: what is committed survives the end of the process; a power cut may take the last moments, never the file
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")
    return connection


def explain(path: Path, error: sqlite3.Error) -> str:
    """One sentence: what is wrong with the file and what to do."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_NOTADB"):
        return f"{path} is not a SQLite database; name another file in store.url"
    if name.startswith("SQLITE_CORRUPT"):
        return _damaged(path, str(error))
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return f"{path} cannot be written ({error}); let the user of this process write the file and its folder"
    if name.startswith("SQLITE_FULL"):
        return f"{path} cannot grow ({error}); make room on its disk"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"{path} is kept locked by another program ({error}); end that program"
    return f"{path} cannot be used ({error}{f', {name}' if name else ''}); look at its disk"


def _damaged(path: Path, what: str) -> str:
    return (
        f"{path} is damaged ({what}); restore a copy, or move it away together with {path.name}-wal and "
        f"{path.name}-shm to start with an empty one"
    )


def _claim(connection: sqlite3.Connection, path: Path) -> None:
    """Make the file ours if it is empty; refuse it if it is somebody else's."""
    owner = _pragma(connection, "application_id")
    if owner == APPLICATION_ID:
        return
    if owner or _pragma(connection, "user_version") or connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
        raise StoreRefused(f"{path} is the database of another program; name another file in store.url")
    _run(connection, f"PRAGMA application_id={APPLICATION_ID};{SQL['schema']}", SCHEMA)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = _pragma(connection, "user_version")
    if version > SCHEMA:
        raise StoreRefused(
            f"{path} has schema {version}, written by a newer Stillhere; this one knows schemas up to {SCHEMA}: run "
            "the newer one, or name another file in store.url"
        )
    if version < 1:
        raise StoreRefused(_damaged(path, "it has no schema number"))
    for step in range(version, SCHEMA):
        _run(connection, SQL[f"migrate {step} to {step + 1}"], step + 1)


def _run(connection: sqlite3.Connection, sql: str, version: int) -> None:
    """Take the file to a version, wholly or not at all."""
    try:
        connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version={version};\nCOMMIT;")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.rollback()
        raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size <= _CHECKED_BYTES:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreRefused(_damaged(path, verdict))


def _load(connection: sqlite3.Connection, path: Path) -> Loaded:
    """Read everything, and write something: a file that cannot be written is to be known at the start."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(SQL["trim epochs"], (EPOCHS_KEPT,))
    row = connection.execute(SQL["load state"]).fetchone()
    records: Decoder[Record] = Decoder(Record)
    try:
        state = msgspec.msgpack.decode(row[0], type=LedgerState) if row else None
        loaded = Loaded(
            state,
            [records(blob) for (blob,) in connection.execute(SQL["load records"])],
            connection.execute(SQL["load epochs"]).fetchall(),
            connection.execute(SQL["load timeline"]).fetchone()[0],
            bool(row and row[1]),
        )
    except msgspec.DecodeError as error:
        raise StoreRefused(_damaged(path, f"a record cannot be read: {error}")) from error
    if state is not None:
        connection.execute(SQL["put state"], row)
    connection.execute("COMMIT")
    return loaded
