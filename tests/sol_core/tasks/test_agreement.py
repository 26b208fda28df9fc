"""Greedy agreement: rows write by themselves, and what is counted of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sol_core.actions import DENSE, Action
from sol_core.decoding.batch_scheduling import RowSchedulers
from sol_core.decoding.schedules import FixedScheduler
from sol_core.models import FrozenLM
from sol_core.tasks.agreement import share_equal, steps_until_divergence, to_go_on, write_after
from sol_core.tasks.encoding import encode_questions
from sol_core.tasks.questions import Question
from sol_core.tasks.scoring import read_contexts
from tests.sol_core.evaluation_stand_ins import GRID
from tests.support.tiny_language_model import make_language_model

HARSH = Action(0.1, 0.4, 5)
STEPS = 12


def _alone(lm: FrozenLM, context: tuple[int, ...], action: Action) -> list[int]:
    """One row, one step after another, nothing shared."""
    cache = lm.new_cache(1, len(context) + STEPS, page_size=GRID.page_size)
    lm.prefill(torch.tensor([context[:-1]]), cache)
    written = [context[-1]]
    for _ in range(STEPS):
        fed = torch.tensor(written[-1:])
        logits = lm.decode_step(fed, cache, action, mechanisms=GRID.mechanisms).logits
        written.append(int(logits[0].argmax()))
    return written[1:]


def test_every_row_goes_on_from_its_own_tokens() -> None:
    model = make_language_model()
    texts = ("Water is wet and", "Fire", "The sky, by day, is")
    prompts = encode_questions(model.tokenizer, [Question((text,), ("",), 0) for text in texts], 64)
    ones = to_go_on(prompts, STEPS)
    assert [model.tokenizer.decode(one.context, skip_special_tokens=True) for one in ones] == list(
        texts
    )
    scheduler = RowSchedulers([FixedScheduler([action]) for _ in ones for action in (DENSE, HARSH)])
    contexts = read_contexts(model.lm, ones, GRID, observe=scheduler.observes)
    rows, steps = range(len(ones)), len(ones[0].tokens)
    scores = write_after(contexts, rows, scheduler, group=2, steps=steps, episode_steps=16)
    for number, one in enumerate(ones):
        for row, action in enumerate((DENSE, HARSH)):
            assert scores.tokens[number, row].tolist() == _alone(model.lm, one.context, action)
    assert (scores.tokens[:, 0] != scores.tokens[:, 1]).any()
    assert scores.spend[:, 1] == pytest.approx(np.asarray([[0.1, 0.4, 5]] * 3) * STEPS)
    assert (scores.num_bytes[:, 1] < scores.num_bytes[:, 0]).all()


def test_shares_and_steps_until_they_part() -> None:
    dense = np.asarray([[1.0, 2, 3, 4]] * 3)
    tokens = np.asarray([[1.0, 2, 3, 4], [9, 2, 3, 4], [1, 2, 9, 4]])
    assert share_equal(tokens, dense).tolist() == [1.0, 0.75, 0.75]
    assert steps_until_divergence(tokens, dense).tolist() == [4.0, 0.0, 2.0]
