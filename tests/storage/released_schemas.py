"""Databases as earlier releases left them, written out in full.

Frozen: add the next version's text when a release changes the schema, and never edit one that
is here. The upgrade tests start from each of them, so they cover every later migration.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

RUN_ID = "oldestRun_01"

_VERSION_1 = """
PRAGMA journal_mode = WAL;
BEGIN;
PRAGMA application_id = 1397705848;
CREATE TABLE runs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    owner BLOB NOT NULL,
    status TEXT NOT NULL,
    title BLOB NOT NULL,
    prompt BLOB NOT NULL,
    search_text BLOB NOT NULL,
    model BLOB NOT NULL,
    schedule BLOB NOT NULL,
    config BLOB NOT NULL,
    prefill BLOB,
    summary BLOB,
    error BLOB,
    num_tokens INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL
);
CREATE INDEX runs_by_owner ON runs (owner, seq);
CREATE TABLE events (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    idx INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (run_id, idx)
);
PRAGMA user_version = 1;
INSERT INTO runs VALUES (
    1, 'oldestRun_01', CAST('alice' AS BLOB), 'finished', CAST('Straße' AS BLOB),
    CAST('Straße' AS BLOB), CAST('strasse' AS BLOB), CAST('model' AS BLOB),
    CAST('static' AS BLOB), CAST('{"seed":7}' AS BLOB), CAST('{"prompt_tokens":3}' AS BLOB),
    CAST('{"reason":"length"}' AS BLOB), NULL, 2, 1700000000123456, 1700000001000000
);
INSERT INTO events VALUES ('oldestRun_01', 0, CAST('{"index":0,"text":"a"}' AS BLOB));
INSERT INTO events VALUES ('oldestRun_01', 1, CAST('{"index":1,"text":"b"}' AS BLOB));
COMMIT;
"""

RELEASED_SCHEMAS = {1: _VERSION_1}


def write_released_database(path: Path, version: int) -> None:
    """Make the database of an earlier release, with one finished run in it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(RELEASED_SCHEMAS[version])
