"""The schema, as numbered steps from a blank file to today's.

A step that has been released is never edited: change the schema with a new step. Each step
runs in one transaction that keeps other processes from migrating, reads the version again and
raises it. So two processes that open a blank database at once take turns, and a process killed
half way leaves the version it started from. Statements are written in SQLite's words, of which
``Backend.create`` makes PostgreSQL's.
"""

from __future__ import annotations

from typing import NamedTuple

from storage.errors import DatabaseVersionError

# Marks the file as ours in its header ("SOLx" in ASCII), so that another program's is refused.
APPLICATION_ID = 0x534F4C78


class Migration(NamedTuple):
    """One step: ``number`` is the version it leads to."""

    number: int
    name: str
    statements: tuple[str, ...]


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        1,
        "runs and events",
        (
            f"PRAGMA application_id = {APPLICATION_ID}",
            # seq gives the order of creation, which the clock cannot promise.
            """
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
            )
            """,
            "CREATE INDEX runs_by_owner ON runs (owner, seq)",
            """
            CREATE TABLE events (
                run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
                idx INTEGER NOT NULL,
                record BLOB NOT NULL,
                PRIMARY KEY (run_id, idx)
            )
            """,
        ),
    ),
    Migration(
        2,
        "jobs, their metrics and samples",
        (
            """
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
            )
            """,
            "CREATE INDEX jobs_by_status ON jobs (status, seq)",
            "CREATE INDEX jobs_by_owner ON jobs (owner, seq)",
            """
            CREATE TABLE job_metrics (
                job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
                seq INTEGER NOT NULL,
                step INTEGER NOT NULL,
                record BLOB NOT NULL,
                PRIMARY KEY (job_id, seq)
            )
            """,
            """
            CREATE TABLE job_samples (
                job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
                seq INTEGER NOT NULL,
                record BLOB NOT NULL,
                PRIMARY KEY (job_id, seq)
            )
            """,
        ),
    ),
    Migration(
        3,
        "challenges and the attempts at them",
        (
            """
            CREATE TABLE challenges (
                seq INTEGER PRIMARY KEY,
                id TEXT NOT NULL UNIQUE,
                record BLOB NOT NULL,
                created_us INTEGER NOT NULL
            )
            """,
            """
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
            )
            """,
            "CREATE INDEX attempts_by_kl ON attempts (challenge_id, kl, seq)",
        ),
    ),
    Migration(
        4,
        "kinds of runs",
        ("ALTER TABLE runs ADD COLUMN kind TEXT NOT NULL DEFAULT 'generation'",),
    ),
    Migration(
        5,
        "looks through the lens that came in a file",
        (
            # row is -1 for a generation.
            """
            CREATE TABLE looks (
                run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
                idx INTEGER NOT NULL,
                row INTEGER NOT NULL,
                record BLOB NOT NULL,
                PRIMARY KEY (run_id, idx, row)
            )
            """,
        ),
    ),
    Migration(
        6,
        "many data directories on one database, and turns in the queue",
        (
            "ALTER TABLE runs ADD COLUMN data_dir_id TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE jobs ADD COLUMN data_dir_id TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE jobs ADD COLUMN claimed_us INTEGER",
        ),
    ),
    Migration(
        7,
        "short forms of runs for lists",
        ("ALTER TABLE runs ADD COLUMN preview BLOB",),
    ),
    Migration(
        8,
        "runs that go on from a token of another one",
        (
            # No reference: a fork outlives its parent, and its siblings still share the id.
            "ALTER TABLE runs ADD COLUMN parent TEXT",
            "CREATE INDEX runs_by_parent ON runs (parent)",
        ),
    ),
    Migration(
        9,
        "no challenges, no looks out of files",
        ("DROP TABLE attempts", "DROP TABLE challenges", "DROP TABLE looks"),
    ),
)

LATEST_VERSION = MIGRATIONS[-1].number


def check_version(shown: str, version: int, latest: int = LATEST_VERSION) -> None:
    """Raise DatabaseVersionError when ``version`` is not one that this release can read."""
    if 0 <= version <= latest:
        return
    raise DatabaseVersionError(
        f"The database {shown} has schema version {version}, written by a newer release; this "
        f"release reads versions up to {latest}. It was left unchanged. "
        "Update the program, or choose another data directory or database."
    )
