"""The tables of a store: one SQLite file that keeps every event.

`events` is the log and the truth; triggers forbid to change or delete a line of it. What
`showings` says of answers is derived from it and can be built anew.
"""

VERSION = 1
APPLICATION_ID = 0x7478676C  # "txgl", in the file's header

TABLES = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE raters (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, joined_at REAL NOT NULL)
    STRICT;
CREATE TABLE texts (
    id INTEGER PRIMARY KEY, text TEXT NOT NULL, source TEXT NOT NULL, is_cut INTEGER NOT NULL
) STRICT;
CREATE TABLE items (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, prompt TEXT NOT NULL,
    first INTEGER NOT NULL REFERENCES texts, second INTEGER REFERENCES texts,
    key TEXT UNIQUE, priority REAL NOT NULL, gold TEXT, query TEXT NOT NULL, lang TEXT NOT NULL,
    added_at REAL NOT NULL, is_open INTEGER NOT NULL
) STRICT;
CREATE TABLE showings (
    id INTEGER PRIMARY KEY, item INTEGER NOT NULL REFERENCES items,
    rater INTEGER NOT NULL REFERENCES raters, is_swapped INTEGER NOT NULL,
    is_repeat INTEGER NOT NULL, shown_at REAL NOT NULL, expires_at REAL NOT NULL,
    answer INTEGER REFERENCES events, is_skipped INTEGER NOT NULL DEFAULT 0,
    UNIQUE (item, rater, is_repeat)
) STRICT;
CREATE INDEX showings_of_rater ON showings (rater);
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, showing INTEGER NOT NULL REFERENCES showings,
    key TEXT NOT NULL UNIQUE, choice TEXT, strength INTEGER, score REAL, rewrite TEXT,
    reason TEXT, facts TEXT, note TEXT NOT NULL, shown_at REAL NOT NULL, answered_at REAL NOT NULL,
    received_at REAL NOT NULL, undoes INTEGER UNIQUE REFERENCES events
) STRICT;
CREATE INDEX events_of_showing ON events (showing);
CREATE TRIGGER events_stay BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER events_remain BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;
CREATE TABLE refits (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, step INTEGER NOT NULL, answers TEXT NOT NULL,
    details TEXT NOT NULL, at REAL NOT NULL, UNIQUE (run, step)
) STRICT;
"""
