-- The file of schema 1, as its version wrote it; what test_sqlite_file.py migrates. Do not change it.
CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), ledger BLOB NOT NULL) STRICT;
CREATE TABLE records (user TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT;
CREATE TABLE log (seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, at REAL NOT NULL, entry BLOB NOT NULL) STRICT;
CREATE TABLE timeline (id INTEGER PRIMARY KEY, user TEXT NOT NULL, at REAL NOT NULL, event BLOB NOT NULL) STRICT;
PRAGMA application_id = 1400130664;
PRAGMA user_version = 1;
