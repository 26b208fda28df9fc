"""An evaluation as a process of its own, to be killed: says a line after every batch."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from sol_core.actions import Budget
from sol_core.evaluation import EvaluationConfig
from sol_core.evaluation.runner import evaluate_contenders
from tests.sol_core.evaluation_stand_ins import contender, random_texts
from tests.support.tiny_language_model import make_language_model

CONFIG = EvaluationConfig(
    budgets=(Budget(0.5, 0.6, 7), Budget(0.3, 0.8, 6)),
    baselines=("static", "random:3", "emc", "dac"),
    texts=18,
    context=20,
    steps=8,
    windows=2,
    seed=3,
    sampled=True,
    pollution=True,
    refresh=True,
)
TEXTS = random_texts(CONFIG.texts, CONFIG.block_len)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    model, policies = make_language_model(), [contender()[0]]
    for event in evaluate_contenders(model, policies, CONFIG, TEXTS, partial=folder):
        sys.stdout.write(f"{type(event).__name__}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
