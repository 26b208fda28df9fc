"""Databases as earlier releases left them, written out in full.

Frozen: add the next version's text when a release changes the schema, and never edit one that
is here. The upgrade tests start from each of them, so they cover every later migration.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

RUN_ID = "oldestRun_01"
JOB_ID = "oldestJob_01"  # from version 2 on

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

_VERSION_2 = """
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
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    owner BLOB NOT NULL,
    title BLOB NOT NULL,
    status TEXT NOT NULL,
    control TEXT NOT NULL,
    params BLOB NOT NULL,
    progress REAL NOT NULL,
    message BLOB NOT NULL,
    eta_s REAL,
    result BLOB,
    error BLOB,
    log_file BLOB,
    worker TEXT,
    created_us INTEGER NOT NULL,
    started_us INTEGER,
    heartbeat_us INTEGER,
    finished_us INTEGER,
    updated_us INTEGER NOT NULL
);
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX jobs_by_owner ON jobs (owner, seq);
CREATE TABLE job_metrics (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    step INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (job_id, seq)
);
CREATE TABLE job_samples (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (job_id, seq)
);
PRAGMA user_version = 2;
INSERT INTO runs VALUES (
    1, 'oldestRun_01', CAST('alice' AS BLOB), 'finished', CAST('Straße' AS BLOB),
    CAST('Straße' AS BLOB), CAST('strasse' AS BLOB), CAST('model' AS BLOB),
    CAST('static' AS BLOB), CAST('{"seed":7}' AS BLOB), CAST('{"prompt_tokens":3}' AS BLOB),
    CAST('{"reason":"length"}' AS BLOB), NULL, 2, 1700000000123456, 1700000001000000
);
INSERT INTO events VALUES ('oldestRun_01', 0, CAST('{"index":0,"text":"a"}' AS BLOB));
INSERT INTO events VALUES ('oldestRun_01', 1, CAST('{"index":1,"text":"b"}' AS BLOB));
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
COMMIT;
"""

_VERSION_3 = """
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
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    owner BLOB NOT NULL,
    title BLOB NOT NULL,
    status TEXT NOT NULL,
    control TEXT NOT NULL,
    params BLOB NOT NULL,
    progress REAL NOT NULL,
    message BLOB NOT NULL,
    eta_s REAL,
    result BLOB,
    error BLOB,
    log_file BLOB,
    worker TEXT,
    created_us INTEGER NOT NULL,
    started_us INTEGER,
    heartbeat_us INTEGER,
    finished_us INTEGER,
    updated_us INTEGER NOT NULL
);
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX jobs_by_owner ON jobs (owner, seq);
CREATE TABLE job_metrics (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    step INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (job_id, seq)
);
CREATE TABLE job_samples (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (job_id, seq)
);
CREATE TABLE challenges (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    record BLOB NOT NULL,
    created_us INTEGER NOT NULL
);
CREATE TABLE attempts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    challenge_id TEXT NOT NULL REFERENCES challenges (id) ON DELETE CASCADE,
    owner BLOB NOT NULL,
    name BLOB NOT NULL,
    kl REAL NOT NULL,
    nll REAL NOT NULL,
    schedule BLOB NOT NULL,
    record BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    UNIQUE (challenge_id, owner, schedule)
);
CREATE INDEX attempts_by_kl ON attempts (challenge_id, kl, seq);
PRAGMA user_version = 3;
INSERT INTO runs VALUES (
    1, 'oldestRun_01', CAST('alice' AS BLOB), 'finished', CAST('Straße' AS BLOB),
    CAST('Straße' AS BLOB), CAST('strasse' AS BLOB), CAST('model' AS BLOB),
    CAST('static' AS BLOB), CAST('{"seed":7}' AS BLOB), CAST('{"prompt_tokens":3}' AS BLOB),
    CAST('{"reason":"length"}' AS BLOB), NULL, 2, 1700000000123456, 1700000001000000
);
INSERT INTO events VALUES ('oldestRun_01', 0, CAST('{"index":0,"text":"a"}' AS BLOB));
INSERT INTO events VALUES ('oldestRun_01', 1, CAST('{"index":1,"text":"b"}' AS BLOB));
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
INSERT INTO challenges VALUES (
    1, 'oldestChallenge', CAST('{"steps":2}' AS BLOB), 1700000000123456
);
INSERT INTO attempts VALUES (
    1, 'oldestChallenge', CAST('alice' AS BLOB), CAST('Ada' AS BLOB), 0.25, 3.5,
    CAST('{"actions":[]}' AS BLOB), CAST('{"policy":{"kl":0.5}}' AS BLOB), 1700000000123456
);
COMMIT;
"""

_VERSION_4 = """
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
, kind TEXT NOT NULL DEFAULT 'generation');
CREATE INDEX runs_by_owner ON runs (owner, seq);
CREATE TABLE events (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    idx INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (run_id, idx)
);
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    owner BLOB NOT NULL,
    title BLOB NOT NULL,
    status TEXT NOT NULL,
    control TEXT NOT NULL,
    params BLOB NOT NULL,
    progress REAL NOT NULL,
    message BLOB NOT NULL,
    eta_s REAL,
    result BLOB,
    error BLOB,
    log_file BLOB,
    worker TEXT,
    created_us INTEGER NOT NULL,
    started_us INTEGER,
    heartbeat_us INTEGER,
    finished_us INTEGER,
    updated_us INTEGER NOT NULL
);
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX jobs_by_owner ON jobs (owner, seq);
CREATE TABLE job_metrics (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    step INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (job_id, seq)
);
CREATE TABLE job_samples (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (job_id, seq)
);
CREATE TABLE challenges (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    record BLOB NOT NULL,
    created_us INTEGER NOT NULL
);
CREATE TABLE attempts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    challenge_id TEXT NOT NULL REFERENCES challenges (id) ON DELETE CASCADE,
    owner BLOB NOT NULL,
    name BLOB NOT NULL,
    kl REAL NOT NULL,
    nll REAL NOT NULL,
    schedule BLOB NOT NULL,
    record BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    UNIQUE (challenge_id, owner, schedule)
);
CREATE INDEX attempts_by_kl ON attempts (challenge_id, kl, seq);
PRAGMA user_version = 4;
INSERT INTO runs VALUES (
    1, 'oldestRun_01', CAST('alice' AS BLOB), 'finished', CAST('Straße' AS BLOB),
    CAST('Straße' AS BLOB), CAST('strasse' AS BLOB), CAST('model' AS BLOB),
    CAST('static' AS BLOB), CAST('{"seed":7}' AS BLOB), CAST('{"prompt_tokens":3}' AS BLOB),
    CAST('{"reason":"length"}' AS BLOB), NULL, 2, 1700000000123456, 1700000001000000, 'generation'
);
INSERT INTO events VALUES ('oldestRun_01', 0, CAST('{"index":0,"text":"a"}' AS BLOB));
INSERT INTO events VALUES ('oldestRun_01', 1, CAST('{"index":1,"text":"b"}' AS BLOB));
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
INSERT INTO challenges VALUES (
    1, 'oldestChallenge', CAST('{"steps":2}' AS BLOB), 1700000000123456
);
INSERT INTO attempts VALUES (
    1, 'oldestChallenge', CAST('alice' AS BLOB), CAST('Ada' AS BLOB), 0.25, 3.5,
    CAST('{"actions":[]}' AS BLOB), CAST('{"policy":{"kl":0.5}}' AS BLOB), 1700000000123456
);
COMMIT;
"""

_VERSION_5 = """
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
, kind TEXT NOT NULL DEFAULT 'generation');
CREATE INDEX runs_by_owner ON runs (owner, seq);
CREATE TABLE events (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    idx INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (run_id, idx)
);
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    owner BLOB NOT NULL,
    title BLOB NOT NULL,
    status TEXT NOT NULL,
    control TEXT NOT NULL,
    params BLOB NOT NULL,
    progress REAL NOT NULL,
    message BLOB NOT NULL,
    eta_s REAL,
    result BLOB,
    error BLOB,
    log_file BLOB,
    worker TEXT,
    created_us INTEGER NOT NULL,
    started_us INTEGER,
    heartbeat_us INTEGER,
    finished_us INTEGER,
    updated_us INTEGER NOT NULL
);
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX jobs_by_owner ON jobs (owner, seq);
CREATE TABLE job_metrics (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    step INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (job_id, seq)
);
CREATE TABLE job_samples (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (job_id, seq)
);
CREATE TABLE challenges (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    record BLOB NOT NULL,
    created_us INTEGER NOT NULL
);
CREATE TABLE attempts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    challenge_id TEXT NOT NULL REFERENCES challenges (id) ON DELETE CASCADE,
    owner BLOB NOT NULL,
    name BLOB NOT NULL,
    kl REAL NOT NULL,
    nll REAL NOT NULL,
    schedule BLOB NOT NULL,
    record BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    UNIQUE (challenge_id, owner, schedule)
);
CREATE INDEX attempts_by_kl ON attempts (challenge_id, kl, seq);
CREATE TABLE looks (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    idx INTEGER NOT NULL,
    row INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (run_id, idx, row)
);
PRAGMA user_version = 5;
INSERT INTO runs VALUES (
    1, 'oldestRun_01', CAST('alice' AS BLOB), 'finished', CAST('Straße' AS BLOB),
    CAST('Straße' AS BLOB), CAST('strasse' AS BLOB), CAST('model' AS BLOB),
    CAST('static' AS BLOB), CAST('{"seed":7}' AS BLOB), CAST('{"prompt_tokens":3}' AS BLOB),
    CAST('{"reason":"length"}' AS BLOB), NULL, 2, 1700000000123456, 1700000001000000, 'generation'
);
INSERT INTO events VALUES ('oldestRun_01', 0, CAST('{"index":0,"text":"a"}' AS BLOB));
INSERT INTO events VALUES ('oldestRun_01', 1, CAST('{"index":1,"text":"b"}' AS BLOB));
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
INSERT INTO challenges VALUES (
    1, 'oldestChallenge', CAST('{"steps":2}' AS BLOB), 1700000000123456
);
INSERT INTO attempts VALUES (
    1, 'oldestChallenge', CAST('alice' AS BLOB), CAST('Ada' AS BLOB), 0.25, 3.5,
    CAST('{"actions":[]}' AS BLOB), CAST('{"policy":{"kl":0.5}}' AS BLOB), 1700000000123456
);
INSERT INTO looks VALUES ('oldestRun_01', 1, -1, CAST('{"dtype":"float32"}' AS BLOB));
COMMIT;
"""

_VERSION_6 = """
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
, kind TEXT NOT NULL DEFAULT 'generation', data_dir_id TEXT NOT NULL DEFAULT '');
CREATE INDEX runs_by_owner ON runs (owner, seq);
CREATE TABLE events (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    idx INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (run_id, idx)
);
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    owner BLOB NOT NULL,
    title BLOB NOT NULL,
    status TEXT NOT NULL,
    control TEXT NOT NULL,
    params BLOB NOT NULL,
    progress REAL NOT NULL,
    message BLOB NOT NULL,
    eta_s REAL,
    result BLOB,
    error BLOB,
    log_file BLOB,
    worker TEXT,
    created_us INTEGER NOT NULL,
    started_us INTEGER,
    heartbeat_us INTEGER,
    finished_us INTEGER,
    updated_us INTEGER NOT NULL
, data_dir_id TEXT NOT NULL DEFAULT '', claimed_us INTEGER);
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX jobs_by_owner ON jobs (owner, seq);
CREATE TABLE job_metrics (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    step INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (job_id, seq)
);
CREATE TABLE job_samples (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (job_id, seq)
);
CREATE TABLE challenges (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    record BLOB NOT NULL,
    created_us INTEGER NOT NULL
);
CREATE TABLE attempts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    challenge_id TEXT NOT NULL REFERENCES challenges (id) ON DELETE CASCADE,
    owner BLOB NOT NULL,
    name BLOB NOT NULL,
    kl REAL NOT NULL,
    nll REAL NOT NULL,
    schedule BLOB NOT NULL,
    record BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    UNIQUE (challenge_id, owner, schedule)
);
CREATE INDEX attempts_by_kl ON attempts (challenge_id, kl, seq);
CREATE TABLE looks (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    idx INTEGER NOT NULL,
    row INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (run_id, idx, row)
);
PRAGMA user_version = 6;
INSERT INTO runs VALUES (
    1, 'oldestRun_01', CAST('alice' AS BLOB), 'finished', CAST('Straße' AS BLOB),
    CAST('Straße' AS BLOB), CAST('strasse' AS BLOB), CAST('model' AS BLOB),
    CAST('static' AS BLOB), CAST('{"seed":7}' AS BLOB), CAST('{"prompt_tokens":3}' AS BLOB),
    CAST('{"reason":"length"}' AS BLOB), NULL, 2, 1700000000123456, 1700000001000000,
    'generation', ''
);
INSERT INTO events VALUES ('oldestRun_01', 0, CAST('{"index":0,"text":"a"}' AS BLOB));
INSERT INTO events VALUES ('oldestRun_01', 1, CAST('{"index":1,"text":"b"}' AS BLOB));
INSERT INTO jobs VALUES (
    1, 'oldestJob_01', 'train', CAST('alice' AS BLOB), CAST('Straße' AS BLOB), 'paused', 'run',
    CAST('{"name":"p"}' AS BLOB), 0.25, CAST('grpo' AS BLOB), 12.5, NULL, NULL,
    CAST('/logs/job.log' AS BLOB), 'worker', 1700000000123456, 1700000001000000,
    1700000002000000, NULL, 1700000002000000, '', 1700000001500000
);
INSERT INTO job_metrics VALUES (
    'oldestJob_01', 0, 3, CAST('{"step":3,"metrics":{"kl":0.5}}' AS BLOB)
);
INSERT INTO job_samples VALUES ('oldestJob_01', 0, CAST('{"step":3}' AS BLOB));
INSERT INTO challenges VALUES (
    1, 'oldestChallenge', CAST('{"steps":2}' AS BLOB), 1700000000123456
);
INSERT INTO attempts VALUES (
    1, 'oldestChallenge', CAST('alice' AS BLOB), CAST('Ada' AS BLOB), 0.25, 3.5,
    CAST('{"actions":[]}' AS BLOB), CAST('{"policy":{"kl":0.5}}' AS BLOB), 1700000000123456
);
INSERT INTO looks VALUES ('oldestRun_01', 1, -1, CAST('{"dtype":"float32"}' AS BLOB));
COMMIT;
"""

_VERSION_7 = """
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
, kind TEXT NOT NULL DEFAULT 'generation', data_dir_id TEXT NOT NULL DEFAULT '', preview BLOB);
CREATE INDEX runs_by_owner ON runs (owner, seq);
CREATE TABLE events (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    idx INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (run_id, idx)
);
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    owner BLOB NOT NULL,
    title BLOB NOT NULL,
    status TEXT NOT NULL,
    control TEXT NOT NULL,
    params BLOB NOT NULL,
    progress REAL NOT NULL,
    message BLOB NOT NULL,
    eta_s REAL,
    result BLOB,
    error BLOB,
    log_file BLOB,
    worker TEXT,
    created_us INTEGER NOT NULL,
    started_us INTEGER,
    heartbeat_us INTEGER,
    finished_us INTEGER,
    updated_us INTEGER NOT NULL
, data_dir_id TEXT NOT NULL DEFAULT '', claimed_us INTEGER);
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX jobs_by_owner ON jobs (owner, seq);
CREATE TABLE job_metrics (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    step INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (job_id, seq)
);
CREATE TABLE job_samples (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (job_id, seq)
);
CREATE TABLE challenges (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    record BLOB NOT NULL,
    created_us INTEGER NOT NULL
);
CREATE TABLE attempts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    challenge_id TEXT NOT NULL REFERENCES challenges (id) ON DELETE CASCADE,
    owner BLOB NOT NULL,
    name BLOB NOT NULL,
    kl REAL NOT NULL,
    nll REAL NOT NULL,
    schedule BLOB NOT NULL,
    record BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    UNIQUE (challenge_id, owner, schedule)
);
CREATE INDEX attempts_by_kl ON attempts (challenge_id, kl, seq);
CREATE TABLE looks (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    idx INTEGER NOT NULL,
    row INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (run_id, idx, row)
);
PRAGMA user_version = 7;
INSERT INTO runs VALUES (
    1, 'oldestRun_01', CAST('alice' AS BLOB), 'finished', CAST('Straße' AS BLOB),
    CAST('Straße' AS BLOB), CAST('strasse' AS BLOB), CAST('model' AS BLOB),
    CAST('static' AS BLOB), CAST('{"seed":7}' AS BLOB), CAST('{"prompt_tokens":3}' AS BLOB),
    CAST('{"reason":"length"}' AS BLOB), NULL, 2, 1700000000123456, 1700000001000000,
    'generation', '', NULL
);
INSERT INTO events VALUES ('oldestRun_01', 0, CAST('{"index":0,"text":"a"}' AS BLOB));
INSERT INTO events VALUES ('oldestRun_01', 1, CAST('{"index":1,"text":"b"}' AS BLOB));
INSERT INTO jobs VALUES (
    1, 'oldestJob_01', 'train', CAST('alice' AS BLOB), CAST('Straße' AS BLOB), 'paused', 'run',
    CAST('{"name":"p"}' AS BLOB), 0.25, CAST('grpo' AS BLOB), 12.5, NULL, NULL,
    CAST('/logs/job.log' AS BLOB), 'worker', 1700000000123456, 1700000001000000,
    1700000002000000, NULL, 1700000002000000, '', 1700000001500000
);
INSERT INTO job_metrics VALUES (
    'oldestJob_01', 0, 3, CAST('{"step":3,"metrics":{"kl":0.5}}' AS BLOB)
);
INSERT INTO job_samples VALUES ('oldestJob_01', 0, CAST('{"step":3}' AS BLOB));
INSERT INTO challenges VALUES (
    1, 'oldestChallenge', CAST('{"steps":2}' AS BLOB), 1700000000123456
);
INSERT INTO attempts VALUES (
    1, 'oldestChallenge', CAST('alice' AS BLOB), CAST('Ada' AS BLOB), 0.25, 3.5,
    CAST('{"actions":[]}' AS BLOB), CAST('{"policy":{"kl":0.5}}' AS BLOB), 1700000000123456
);
INSERT INTO looks VALUES ('oldestRun_01', 1, -1, CAST('{"dtype":"float32"}' AS BLOB));
COMMIT;
"""

# Of version 7 with what the eighth step adds, in the words that SQLite keeps of it.
_VERSION_8 = (
    _VERSION_7.replace(", preview BLOB);", ", preview BLOB, parent TEXT);")
    .replace(
        "CREATE INDEX runs_by_owner ON runs (owner, seq);",
        "CREATE INDEX runs_by_owner ON runs (owner, seq);\n"
        "CREATE INDEX runs_by_parent ON runs (parent);",
    )
    .replace("user_version = 7", "user_version = 8")
    .replace("    'generation', '', NULL\n", "    'generation', '', NULL, NULL\n")
)

_VERSION_9 = _VERSION_8.replace("user_version = 8", "user_version = 9").replace(
    "COMMIT;", "DROP TABLE attempts;\nDROP TABLE challenges;\nDROP TABLE looks;\nCOMMIT;"
)

RELEASED_SCHEMAS = {
    1: _VERSION_1,
    2: _VERSION_2,
    3: _VERSION_3,
    4: _VERSION_4,
    5: _VERSION_5,
    6: _VERSION_6,
    7: _VERSION_7,
    8: _VERSION_8,
    9: _VERSION_9,
}


def write_released_database(path: Path, version: int) -> None:
    """Make the database of an earlier release, with one finished run in it, and a paused job."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(RELEASED_SCHEMAS[version])
