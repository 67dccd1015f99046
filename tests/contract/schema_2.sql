-- The file of schema 2, as its version made it; what test_marks.py migrates. Do not change it.
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
PRAGMA application_id = 1400130664;
PRAGMA user_version = 2;
