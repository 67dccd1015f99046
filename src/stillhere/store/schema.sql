-- All SQL of the sqlite store, by name.
--
-- A line "-- name: …" begins a section; stillhere.store.sqlite_file reads them. Placeholders are positional and named in
-- the comment of the section. Nothing here needs more than SQLite 3.37 (STRICT tables).
--
-- The ledger in memory is the state; this file holds what a crash would take. All blobs are MessagePack, or JSON if
-- they begin with "[" (sqlite_blob.py): `ledger` is core.ledger.LedgerState, `record` core.record.Record, `entry`
-- core.events.Transition, `event` any of core.events.
--
-- PRAGMA user_version is the number of the schema, PRAGMA application_id says whose file it is.

-- name: schema
-- A new file, schema 3.
CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    ledger BLOB NOT NULL,
    clean INTEGER NOT NULL DEFAULT 0          -- 1: the last run was stopped; 0: it runs, or was killed
) STRICT;
CREATE TABLE records (
    user TEXT PRIMARY KEY,
    record BLOB NOT NULL
) STRICT;
CREATE TABLE epochs (
    epoch INTEGER PRIMARY KEY,                -- one per run
    began_after INTEGER NOT NULL              -- the last place of the log before it
) STRICT;
CREATE TABLE log (
    seq INTEGER PRIMARY KEY,                  -- the version of the transition; contiguous
    at REAL NOT NULL,                         -- Unix time
    entry BLOB NOT NULL
) STRICT;
CREATE TABLE timeline (
    id INTEGER PRIMARY KEY,                   -- in the order of events
    user TEXT NOT NULL,
    at REAL NOT NULL,                         -- Unix time
    event BLOB NOT NULL
) STRICT;
CREATE INDEX timeline_of_user ON timeline (user, id);
CREATE TABLE marks (
    name TEXT PRIMARY KEY,                    -- of a reader of the log
    value BLOB NOT NULL                       -- how far it came, in its own words
) STRICT;

-- name: migrate 1 to 2
-- Tells a stop from a crash, knows to which run a cursor belongs, and finds the timeline of a user without a scan.
ALTER TABLE state ADD COLUMN clean INTEGER NOT NULL DEFAULT 0;
CREATE TABLE epochs (
    epoch INTEGER PRIMARY KEY,
    began_after INTEGER NOT NULL
) STRICT;
INSERT INTO epochs (epoch, began_after) SELECT epoch, MIN(seq) - 1 FROM log GROUP BY epoch;
ALTER TABLE log DROP COLUMN epoch;
CREATE INDEX timeline_of_user ON timeline (user, id);

-- name: migrate 2 to 3
-- Readers of the log go on where they were before a restart.
CREATE TABLE marks (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- name: load state
SELECT ledger, clean FROM state;

-- name: load records
SELECT record FROM records ORDER BY rowid;

-- name: load epochs
SELECT epoch, began_after FROM epochs ORDER BY epoch;

-- name: load timeline
-- The last id.
SELECT COALESCE(MAX(id), 0) FROM timeline;

-- name: put state
-- ledger, clean
INSERT INTO state (id, ledger, clean) VALUES (1, ?, ?)
ON CONFLICT (id) DO UPDATE SET ledger = excluded.ledger, clean = excluded.clean;

-- name: put epoch
-- epoch, began_after
INSERT OR IGNORE INTO epochs (epoch, began_after) VALUES (?, ?);

-- name: put record
-- user, record
INSERT INTO records (user, record) VALUES (?, ?) ON CONFLICT (user) DO UPDATE SET record = excluded.record;

-- name: forget record
-- user
DELETE FROM records WHERE user = ?;

-- name: forget timeline
-- user
DELETE FROM timeline WHERE user = ?;

-- name: put log
-- seq, at, entry. Replaces, as below: a commit that failed may yet have reached the disk before it was tried again.
INSERT OR REPLACE INTO log (seq, at, entry) VALUES (?, ?, ?);

-- name: put timeline
-- id, user, at, event
INSERT OR REPLACE INTO timeline (id, user, at, event) VALUES (?, ?, ?, ?);

-- name: put mark
-- name, value
INSERT INTO marks (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: forget mark
-- name
DELETE FROM marks WHERE name = ?;

-- name: get mark
-- name
SELECT value FROM marks WHERE name = ?;

-- name: trim epochs
-- how many to keep
DELETE FROM epochs WHERE epoch <= (SELECT epoch FROM epochs ORDER BY epoch DESC LIMIT 1 OFFSET ?);

-- name: trim log
-- the last place to delete
DELETE FROM log WHERE seq <= ?;

-- name: trim timeline
-- the last id to delete
DELETE FROM timeline WHERE id <= ?;

-- name: trim timeline of user
-- user, user, how many to keep
DELETE FROM timeline
WHERE user = ? AND id <= (SELECT id FROM timeline WHERE user = ? ORDER BY id DESC LIMIT 1 OFFSET ?);

-- name: oldest of log
-- how many
SELECT seq, at FROM log ORDER BY seq LIMIT ?;

-- name: oldest of timeline
-- how many
SELECT id, at FROM timeline ORDER BY id LIMIT ?;

-- name: read log
-- after, up to, how many
SELECT seq, entry FROM log WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?;

-- name: read timeline
-- user, how many of the newest, after, before, how many of those
SELECT event FROM (
    SELECT id, at, event FROM timeline WHERE user = ? ORDER BY id DESC LIMIT ?
) WHERE at > ? AND at < ? ORDER BY id LIMIT ?;
