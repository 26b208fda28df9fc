"""The part of a training job that ranks other than the lead play: the same work, no word of it.

The lead has the job's row, folder and output; a follower gets the job from it, trains along and
drops the events.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from app.host.paths import DataDir
from app.jobs.engines import train_events
from app.jobs.stop_flag import StopFlag, set_by_signals
from app.jobs.updates import JobTask
from sol_core.errors import RankLostError, SolError
from sol_core.progress import WorkFinished

if TYPE_CHECKING:
    from sol_core.training.ranks import Ranks
    from storage import JobRecord


def follow_training(data_dir: DataDir, ranks: Ranks) -> Literal["succeeded", "failed", "paused"]:
    """Train along until the lead's job ends; returns how.

    Raises: RankLostError, since the lead may be the one that cannot say it.
    """
    logging.getLogger().setLevel(logging.ERROR)
    stop = StopFlag()
    try:
        nothing: Any = None  # only the lead reports
        job: JobRecord = ranks.lead(lambda: nothing)
        folder = data_dir.jobs / job.id
        # The lead's console shows what is being done.
        task = JobTask(job, folder, data_dir, "auto", stop.is_set, lambda message: None)
        with set_by_signals(stop):
            for event in train_events(task, ranks):
                if isinstance(event, WorkFinished):
                    return "succeeded"
    except RankLostError:
        raise
    except SolError:  # every rank has it, and the lead says it
        return "failed"
    return "paused"
