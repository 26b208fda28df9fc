"""One rank of a training on the tiny model: run by torchrun, or with its variables set by hand.

Usage: ranks_child.py SCENARIO FOLDER MODEL CONFIG. What happened is written to FOLDER/rank-N.json.
The model is a saved one: making one imports transformers' models, four seconds of each process.
"""

import dataclasses
import json
import sys
from datetime import timedelta
from pathlib import Path

import torch

from sol_core.errors import SolError
from sol_core.fields import from_json
from sol_core.models.loading import load_language_model
from sol_core.training import warm_start
from sol_core.training.config import TrainConfig, WarmStartConfig
from sol_core.training.ranks import join_ranks
from sol_core.training.trainer import train

PATIENCE = {"impatient": timedelta(seconds=10)}


def load(folder):
    """The tiny model that was saved there."""
    return load_language_model(str(folder), data_dir=folder, dtype="float32", device="cpu")


def run(model, config, folder, ranks, stop_in=None):
    """All events; ``stop_in`` is a phase in which the last rank alone wishes to stop."""
    seen = []

    def should_stop():
        last = ranks.rank == ranks.size - 1
        return last and stop_in in [event.get("message", "none") for event in seen]

    options = {"data_dir": folder.parent / "data", "should_stop": should_stop, "ranks": ranks}
    for event in train(model, config, folder, **options):
        seen.append({"type": type(event).__name__, **dataclasses.asdict(event)})
    return seen


def agree(model, config, folder, ranks):
    """A whole run; one that the last rank stops; one in which its labels are NaN."""
    torch.manual_seed(ranks.rank)  # what the process did before must not matter
    whole = run(model, config, folder / "whole", ranks)
    stopped = run(model, config, folder / "stopped", ranks, stop_in="grpo")
    label_text = warm_start.label_text

    def poisoned(*arguments):
        labels = label_text(*arguments)
        damage = labels.damage * (torch.nan if ranks.rank == ranks.size - 1 else 1.0)
        return labels._replace(damage=damage)

    warm_start.label_text = poisoned
    try:
        run(model, config, folder / "poisoned", ranks)
        error = ""
    except SolError as caught:
        error = f"{type(caught).__name__}: {caught}"
    warm_start.label_text = label_text
    return {"whole": whole, "stopped": stopped, "poisoned": error}


def endless(model, config, folder, ranks):
    """A run long enough to be killed in, which soon has a checkpoint."""
    longer = dataclasses.replace(
        config,
        warm_start=WarmStartConfig(texts=2, epochs=1),
        grpo=dataclasses.replace(config.grpo, updates=100_000),
    )
    run(model, longer, folder / "run", ranks)


def main():
    scenario, (folder, saved) = sys.argv[1], map(Path, sys.argv[2:4])
    config = from_json(TrainConfig, json.loads(sys.argv[4]))
    with join_ranks(PATIENCE.get(scenario, timedelta(minutes=3))) as ranks:
        report = folder / f"rank-{ranks.rank}.json"
        model = load(saved)
        if scenario == "agree":
            made = agree(model, config, folder, ranks)
            report.write_text(json.dumps(made))
            return 0
        try:
            endless(model, config, folder, ranks)
        except SolError as error:
            report.write_text(json.dumps(f"{type(error).__name__}: {error}"))
            raise
    return 1


if __name__ == "__main__":
    sys.exit(main())
