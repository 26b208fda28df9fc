"""Train a policy in one call; Ctrl+C keeps the progress."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from sol_core.api.arguments import check_model, data_folder, finished_work, with_settings
from sol_core.errors import ConfigError
from sol_core.fields import check_kind
from sol_core.progress import Progress, WorkEvent

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel
    from sol_core.policy.policy import Policy
    from sol_core.training.config import TrainConfig


def train(
    model: LanguageModel,
    folder: str | Path,
    config: TrainConfig | str = "quick",
    *,
    corpus: Any = None,
    allow_untrained: bool = False,
    on_event: Callable[[WorkEvent], None] | None = None,
    data_dir: str | Path | None = None,
    on_progress: Progress | None = None,
    **settings: Any,
) -> Policy:
    """Train a policy for a model: a warm start, then the paper's GRPO (arXiv:2605.10875).

    Args:
        model: as returned by ``load_model``; its weights do not change.
        folder: the run's own folder; an interrupted run in it resumes. The policy's files are
            written to ``folder / "policy"``.
        config: a preset (quick, standard or paper), or a TrainConfig.
        corpus: a name, a path, a text, a list of texts or a ``datasets.Dataset``; None means the
            configuration's.
        allow_untrained: also return a policy that learnt nothing or is worse than static on its
            held-out text.
        on_event: called with each event of the run: metrics, samples, checkpoints.
        data_dir: folder of cached text; None as for ``load_model``.
        on_progress: called with a message and the fraction done; None shows a bar on stderr.
        settings: fields of ``TrainConfig`` to change; for a nested one, a dict of changes, as in
            ``grpo={"updates": 3}``.
    Raises: SolError for a training that cannot run; PolicyError for a policy that is not kept;
        OSError if the disk is full; KeyboardInterrupt after Ctrl+C: once, it waits for a
        checkpoint, twice, it stops at once. The same call resumes.
    """
    from sol_core.policy.policy import load_policy as load
    from sol_core.training.config import TrainConfig, preset
    from sol_core.training.trainer import check_kept

    check_model(model)
    check_kind("folder", folder, (str, Path), "a folder")
    chosen = preset(config) if isinstance(config, str) else config
    check_kind("config", chosen, TrainConfig, "a TrainConfig or a preset's name")
    root, run = data_folder(data_dir), Path(folder).expanduser()
    chosen = with_settings(chosen, settings, corpus, root)
    with _stopped_by_ctrl_c(run) as asked:
        finished = finished_work(_events(model, chosen, run, root, asked), on_progress, on_event)
    if not allow_untrained:
        check_kept(finished.result["summary"])
    return load(Path(finished.result["folder"]), model)


def _events(
    model: LanguageModel, config: TrainConfig, run: Path, root: Path, asked: Callable[[], bool]
) -> Iterator[WorkEvent]:
    """Measure the model's tables, train, and measure where the policy pays; yield all events."""
    from sol_core.evaluation.gains import trained_with_gains
    from sol_core.evaluation.measure_tables import measure_tables
    from sol_core.training.checkpoint import check_own
    from sol_core.training.trainer import train as engine

    if own := config.grid.own_parts:
        raise ConfigError(
            f"a policy's files cannot hold {own[0]}, an object of yours: train on a named one, or "
            "add it to the tables of a fork (docs/extending.md)"
        )
    try:
        check_own(run)
        training = engine(model, config, run, data_dir=root, should_stop=asked)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise ConfigError(f"cannot make the folder {run}: {error.strerror}") from error
    training = trained_with_gains(training, model, config, data_dir=root, should_stop=asked)
    return chain(measure_tables(model, config.grid, root, asked), training)


@contextmanager
def _stopped_by_ctrl_c(run: Path) -> Iterator[Callable[[], bool]]:
    """Tell the block whether Ctrl+C was pressed, and raise KeyboardInterrupt after it.

    A second one ends the block at once. Outside the main thread, and where the caller handles the
    signal, nothing changes.
    """
    asked = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield asked.is_set
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield asked.is_set
    except KeyboardInterrupt:
        if not asked.is_set():
            raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if asked.is_set():
        raise KeyboardInterrupt(
            f"the run and its last checkpoint are kept in {run}; the same call goes on"
        )
