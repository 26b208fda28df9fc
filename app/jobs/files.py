"""The files of a job: its folder with checkpoints, and its log."""

from __future__ import annotations

import shutil

from app.host.paths import DataDir
from app.jobs.runner import log_path
from storage import JobStore


def delete_job(jobs: JobStore, data_dir: DataDir, job_id: str) -> None:
    """Delete a job's record, then its folder and log. A policy that it made stays.

    Raises: NotFoundError; JobStateError while it runs.
    """
    jobs.delete(job_id)
    shutil.rmtree(data_dir.jobs / job_id, ignore_errors=True)
    log_path(data_dir, job_id).unlink(missing_ok=True)
