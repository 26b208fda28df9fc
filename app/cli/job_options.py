"""Parts shared by the commands around jobs: database, corpora, a job's JSON, a progress bar."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.options import add_grid, load_model, open_data_dir, schedule_finder
from app.formats import json_safe
from app.host.console import Console
from app.host.errors import AppError
from app.host.paths import DataDir
from sol_core.actions import GRIDS, ActionGrid, Budget
from sol_core.policy.files.locate import resolved_grid, shipped_policy_for
from sol_core.progress import WorkEvent, WorkFinished, WorkProgress

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel
    from storage import JobRecord, Store

BAR_WIDTH = 24
PARTIAL_FOLDER = "benchmarks"  # of a data directory: what an interrupted measurement had done


@contextmanager
def open_jobs(args: argparse.Namespace, *, fills: bool = False) -> Iterator[tuple[DataDir, Store]]:
    """The data directory and its database; only what ``fills`` them needs a disk with room."""
    data_dir = open_data_dir(args, fills=fills)
    from app.host.database import open_database

    with open_database(data_dir, writes=fills) as store:
        yield data_dir, store


def add_policy(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    parser.add_argument(
        "policy",
        nargs="?" if optional else None,
        metavar="POLICY",
        help="a stored policy's name, a policy's folder, or default; or MODULE:NAME, a schedule of "
        "your own",
    )
    add_grid(parser)


def _known_policy(args: argparse.Namespace, budgets: Iterable[Budget]) -> Any:
    """The folder of the policy that the options name, of the grid that they name; or a schedule."""
    from sol_core.policy.info import read_policy_info

    source, chosen = schedule_finder(args)(args.policy), chosen_grid(args)
    if isinstance(source, Path) and chosen is not None:
        source = shipped_policy_for(source, chosen)
        read_policy_info(source).check_grid(chosen)
    grid = resolved_grid(chosen, [source])
    for budget in budgets:
        grid.check_budget(budget)
    return source


def chosen_grid(args: argparse.Namespace) -> ActionGrid | None:
    """The grid of ``--grid``; None where nobody chose."""
    return None if args.grid is None else GRIDS[args.grid]


def policy_on_model(
    args: argparse.Namespace, budgets: Iterable[Budget]
) -> tuple[LanguageModel, str, Any, Path]:
    """The model, the policy's name in results and its folder or schedule, and a data directory."""
    args.notice.kept = f"what is measured so far is kept; go on with: {args.typed}"
    budgets = list(budgets)
    source = _known_policy(args, budgets)
    model, _ = load_model(args, Console(), budgets)
    is_path = isinstance(source, Path) and ("/" in args.policy or "\\" in args.policy)
    name = source.name if is_path else args.policy
    return model, name, source, open_data_dir(args).root


class ProgressLine:
    """A bar that moves on a terminal; elsewhere a line for every tenth of the work."""

    def __init__(self, console: Console) -> None:
        self._console, self._tenths = console, -1

    def show(self, event: WorkProgress) -> None:
        """Show how far the work is: "[██████      ]  42 %  grpo, about 3 min left"."""
        left = "" if event.eta_s is None else f", about {time_left(event.eta_s)} left"
        words = f"{100 * event.fraction:3.0f} %  {event.message}{left}"
        if self._console.is_terminal:
            bar = "█" * round(BAR_WIDTH * event.fraction)
            self._console.status(f"[{bar:{BAR_WIDTH}}] {words}")
        elif (tenths := int(10 * event.fraction + 1e-9)) > self._tenths:
            self._console.say(words)
            self._tenths = tenths


def shown_result(args: argparse.Namespace, events: Iterable[WorkEvent]) -> WorkFinished:
    """Show the progress of a measurement and return its result, free of NaN."""
    console = Console()
    line = ProgressLine(console)
    for event in events:
        if isinstance(event, WorkProgress):
            line.show(event)
        elif isinstance(event, WorkFinished):
            console.clear()
            result = json_safe(event.result)
            if "made_with" in result:
                result["made_with"]["command"] = args.typed
            return WorkFinished(result, event.per_text)
    raise AppError("the measurement ended without a result")


def job_as_json(job: JobRecord) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(job).items()
    }


def time_left(seconds: float | None) -> str:
    """A duration as people say it: "40 s", "3 min", "2.5 h"; "" where it is not known."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
