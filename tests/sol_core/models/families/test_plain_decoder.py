"""Our steps against an independent decoder: within 2e-3 nats, but for near-ties that it names."""

import itertools
import statistics

import pytest
import torch

from sol_core.actions import GRIDS, Action
from sol_core.model_tables.tables import shipped_floors
from tests.sol_core.models.families.plain_decoder import DENSE_STEP, PlainDecoder, Skipping
from tests.support.tiny_models import family_of, make_pair

LENGTH = 72
NATS, NEAR_TIE, AGREEING = 2e-3, 1e-4, 0.95
ACTIONS = [Action(0.3), Action(1.0, 0.5), Action(0.15, 0.7), Action(0.6, 0.4)]


def _skipping(action, how, tokens):
    entering, inner = how.mlp_fractions(action.channel_keep_ratio)
    if how.pruner.keep_inner is None:
        assert (entering, inner) == (action.channel_keep_ratio, 1.0)
    else:
        assert (2 * entering + inner) / 3 == pytest.approx(action.channel_keep_ratio)
    floors = shipped_floors().floors((action.keep_fraction,), tokens)
    floor = floors[0] if how.chooses_by_group else None
    return Skipping(action.keep_fraction, entering, inner, floor)


def _pair(name):
    theirs, lm = make_pair(family_of(name, num_hidden_layers=3), seed=3)
    text = torch.randint(3, 199, (LENGTH + 1,), generator=torch.Generator().manual_seed(5))
    return PlainDecoder(theirs.state_dict(), theirs.config.to_dict()), lm, text.tolist()


@pytest.mark.parametrize("grid", ["paper", "default"])
@pytest.mark.parametrize("name", ["llama-gqa-tied", "llama-mha-untied"])
def test_steps_after_a_dense_past_agree(name, grid):
    plain, lm, text = _pair(name)
    how = GRIDS[grid].mechanisms
    past = [[] for _ in range(plain.layers)]
    dense = [plain.step(token, past, DENSE_STEP)[0] for token in text[:LENGTH]]
    prefix = lm.new_cache(1, LENGTH)
    hidden = lm.prefill(torch.tensor([text[:LENGTH]]), prefix)
    found = lm.logits(hidden)[0].log_softmax(-1)
    torch.testing.assert_close(found, torch.stack(dense), rtol=0, atol=1e-4)
    compared, changes = [], []
    for place, action in zip(range(9, LENGTH, 2), itertools.cycle(ACTIONS)):
        seen = [layer[:place] for layer in past]
        expected, tie = plain.step(text[place], seen, _skipping(action, how, place + 1))
        cache = prefix.branch(1, 1, lengths=[place])
        output = lm.decode_step(torch.tensor([text[place]]), cache, action, mechanisms=how)
        nll = output.logits[0].log_softmax(-1)[text[place + 1]]
        compared.append((abs(float(nll - expected[text[place + 1]])), tie))
        changes.append(abs(float(expected[text[place + 1]] - dense[place][text[place + 1]])))
    assert statistics.fmean(difference <= NATS for difference, _ in compared) >= AGREEING
    assert [pair for pair in compared if pair[0] > NATS and pair[1] >= NEAR_TIE] == []
    assert statistics.fmean(change > NATS for change in changes) > 0.9
