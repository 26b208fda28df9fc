"""Databases as earlier releases left them: the first one's tables, and what each later one added.

Frozen: add the next version's steps when a release changes the schema, and never edit one that
is here. The upgrade tests start from each of them, so they cover every later migration.
"""

import sqlite3
from contextlib import closing

RUN_ID = "oldestRun_01"
JOB_ID = "oldestJob_01"  # from version 2 on

_STEPS = {
    1: """
CREATE TABLE runs (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner BLOB NOT NULL, status TEXT NOT NULL,
    title BLOB NOT NULL, prompt BLOB NOT NULL, search_text BLOB NOT NULL, model BLOB NOT NULL,
    schedule BLOB NOT NULL, config BLOB NOT NULL, prefill BLOB, summary BLOB, error BLOB,
    num_tokens INTEGER NOT NULL, created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL
);
CREATE INDEX runs_by_owner ON runs (owner, seq);
CREATE TABLE events (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    idx INTEGER NOT NULL, record BLOB NOT NULL, PRIMARY KEY (run_id, idx)
);
INSERT INTO runs VALUES (
    1, 'oldestRun_01', CAST('alice' AS BLOB), 'finished', CAST('Straße' AS BLOB),
    CAST('Straße' AS BLOB), CAST('strasse' AS BLOB), CAST('model' AS BLOB),
    CAST('static' AS BLOB), CAST('{"seed":7}' AS BLOB), CAST('{"prompt_tokens":3}' AS BLOB),
    CAST('{"reason":"length"}' AS BLOB), NULL, 2, 1700000000123456, 1700000001000000
);
INSERT INTO events VALUES ('oldestRun_01', 0, CAST('{"index":0,"text":"a"}' AS BLOB));
INSERT INTO events VALUES ('oldestRun_01', 1, CAST('{"index":1,"text":"b"}' AS BLOB));
""",
    2: """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, owner BLOB NOT NULL,
    title BLOB NOT NULL, status TEXT NOT NULL, control TEXT NOT NULL, params BLOB NOT NULL,
    progress REAL NOT NULL, message BLOB NOT NULL, eta_s REAL, result BLOB, error BLOB,
    log_file BLOB, worker TEXT, created_us INTEGER NOT NULL, started_us INTEGER,
    heartbeat_us INTEGER, finished_us INTEGER, updated_us INTEGER NOT NULL
);
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX jobs_by_owner ON jobs (owner, seq);
CREATE TABLE job_metrics (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL, step INTEGER NOT NULL, record BLOB NOT NULL, PRIMARY KEY (job_id, seq)
);
CREATE TABLE job_samples (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL, record BLOB NOT NULL, PRIMARY KEY (job_id, seq)
);
INSERT INTO jobs VALUES (
    1, 'oldestJob_01', 'train', CAST('alice' AS BLOB), CAST('Straße' AS BLOB), 'paused', 'run',
    CAST('{"name":"p"}' AS BLOB), 0.25, CAST('grpo' AS BLOB), 12.5, NULL, NULL,
    CAST('/logs/job.log' AS BLOB), 'worker', 1700000000123456, 1700000001000000,
    1700000002000000, NULL, 1700000002000000
);
INSERT INTO job_metrics VALUES (
    'oldestJob_01', 0, 3, CAST('{"step":3,"metrics":{"kl":0.5}}' AS BLOB)
);
INSERT INTO job_samples VALUES ('oldestJob_01', 0, CAST('{"step":3}' AS BLOB));
""",
    3: """
CREATE TABLE challenges (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, record BLOB NOT NULL,
    created_us INTEGER NOT NULL
);
CREATE TABLE attempts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    challenge_id TEXT NOT NULL REFERENCES challenges (id) ON DELETE CASCADE,
    owner BLOB NOT NULL, name BLOB NOT NULL, kl REAL NOT NULL, nll REAL NOT NULL,
    schedule BLOB NOT NULL, record BLOB NOT NULL, created_us INTEGER NOT NULL,
    UNIQUE (challenge_id, owner, schedule)
);
CREATE INDEX attempts_by_kl ON attempts (challenge_id, kl, seq);
INSERT INTO challenges VALUES (
    1, 'oldestChallenge', CAST('{"steps":2}' AS BLOB), 1700000000123456
);
INSERT INTO attempts VALUES (
    1, 'oldestChallenge', CAST('alice' AS BLOB), CAST('Ada' AS BLOB), 0.25, 3.5,
    CAST('{"actions":[]}' AS BLOB), CAST('{"policy":{"kl":0.5}}' AS BLOB), 1700000000123456
);
""",
    4: "ALTER TABLE runs ADD COLUMN kind TEXT NOT NULL DEFAULT 'generation';",
    5: """
CREATE TABLE looks (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    idx INTEGER NOT NULL, row INTEGER NOT NULL, record BLOB NOT NULL,
    PRIMARY KEY (run_id, idx, row)
);
INSERT INTO looks VALUES ('oldestRun_01', 1, -1, CAST('{"dtype":"float32"}' AS BLOB));
""",
    6: """
ALTER TABLE runs ADD COLUMN data_dir_id TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN data_dir_id TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN claimed_us INTEGER;
UPDATE jobs SET claimed_us = 1700000001500000;
""",
    7: "ALTER TABLE runs ADD COLUMN preview BLOB;",
    8: """
ALTER TABLE runs ADD COLUMN parent TEXT;
CREATE INDEX runs_by_parent ON runs (parent);
""",
    9: "DROP TABLE attempts; DROP TABLE challenges; DROP TABLE looks;",
    10: "ALTER TABLE jobs ADD COLUMN address BLOB;",
}
VERSIONS = tuple(_STEPS)


def write_released_database(path, version):
    """Make the database of an earlier release, with one finished run in it, and a paused job."""
    steps = "".join(_STEPS[number] for number in VERSIONS[:version])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            f"PRAGMA journal_mode = WAL; PRAGMA application_id = 1397705848; BEGIN; {steps}"
            f"PRAGMA user_version = {version}; COMMIT;"
        )
