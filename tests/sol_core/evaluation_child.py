"""An evaluation as a process of its own, to be killed: says a line after every batch.

Usage: evaluation_child.py FOLDER MODEL. The model is a saved one: making one imports transformers'
models, which takes four seconds.
"""

import sys
from pathlib import Path

import torch

from sol_core.actions import Budget
from sol_core.evaluation.config import EvaluationConfig
from sol_core.models.loading import load_language_model
from tests.sol_core.evaluation_stand_ins import contender, evaluate_contenders, random_texts

CONFIG = EvaluationConfig(
    budgets=(Budget(0.5, 0.6, 7), Budget(0.3, 0.8, 6)),
    baselines=("static", "random:3", "emc", "dac"), texts=18, context=20, steps=8, windows=2,
    seed=3,
)  # fmt: skip
TEXTS = random_texts(CONFIG.texts, CONFIG.block_len)


def load(folder):
    """The tiny model that was saved there."""
    return load_language_model(str(folder), data_dir=folder, dtype="float32", device="cpu")


def main(folder, saved):
    torch.set_num_threads(1)
    model, policies = load(saved), [contender()[0]]
    for event in evaluate_contenders(model, policies, CONFIG, TEXTS, partial=folder):
        sys.stdout.write(f"{type(event).__name__}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
