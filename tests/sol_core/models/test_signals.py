"""What a step and a prefill let a policy observe."""

import math

import pytest
import torch

from kernels.page_attention import page_mass_outside
from sol_core.actions import GRIDS, PAGE_SCORERS, Action, Mechanisms
from sol_core.models import signals as signals_module
from sol_core.models.signals import Observe
from tests.support.tiny_models import make_tiny_lm

ALL = Observe.CONCENTRATION

PROMPT = 30


def _prompt(length, rows=1):
    return torch.randint(3, 199, (rows, length), generator=torch.Generator().manual_seed(1))


def test_mass_outside_by_hand():
    scores = torch.tensor([[[0.0, 2.0, 1.0, 9.0, 2.0]]])
    valid = torch.tensor([[True, True, True, False, True]])
    tokens = torch.tensor([[4, 4, 4, 0, 1]])
    # Four valid pages weigh 4, 4e², 4e and e²; the best two of 0.4 · 4 are kept.
    weights = sorted([4.0, 4 * math.exp(2), 4 * math.exp(1), math.exp(2)])
    expected = sum(weights[:2]) / sum(weights)
    found = page_mass_outside(scores, valid, tokens, 0.4)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("family", ["llama-gqa-tied", "gemma3"])
@pytest.mark.parametrize(
    ("how", "chunk_scores"),
    [(GRIDS["default"].mechanisms, 2**22)]
    + [(Mechanisms(page_scorer=name), 1) for name in PAGE_SCORERS],
    ids=lambda value: getattr(value, "page_scorer", value),
)
def test_prefill_observes_what_dense_steps_observe(family, how, chunk_scores, monkeypatch):
    monkeypatch.setattr(signals_module, "_SCORES_PER_CHUNK", chunk_scores)
    lm = make_tiny_lm(family)
    tokens = _prompt(PROMPT, rows=2)
    whole, chunked = lm.new_cache(2, PROMPT), lm.new_cache(2, PROMPT)
    plain = lm.prefill(tokens, lm.new_cache(2, PROMPT))
    output = lm.observed_prefill(tokens, whole, mechanisms=how)
    assert torch.equal(output.hidden, plain)
    lm.prefill(tokens[:, :11], chunked)
    late = lm.observed_prefill(tokens[:, 11:], chunked, mechanisms=how)
    whole_late = output.attention_concentration[:, 11:]
    torch.testing.assert_close(late.attention_concentration, whole_late, rtol=0, atol=1e-4)
    some = torch.tensor([0, 3, 17])
    part = lm.observed_prefill(tokens, lm.new_cache(2, PROMPT), mechanisms=how, observed=some)
    found, expected = (one.attention_concentration for one in (part, output))
    torch.testing.assert_close(found, expected[:, some], rtol=0, atol=1e-6)
    assert torch.equal(part.mid_hidden, output.mid_hidden[:, some])
    stepped = lm.new_cache(2, PROMPT)
    for position in range(PROMPT):
        step = lm.decode_step(tokens[:, position], stepped, mechanisms=how, observe=ALL)
        now = output.attention_concentration[:, position]
        torch.testing.assert_close(step.attention_concentration, now, rtol=0, atol=1e-4)
        now = output.mid_hidden[:, position]
        torch.testing.assert_close(step.mid_hidden, now, rtol=1e-3, atol=1e-3)
    assert output.attention_concentration[:, 8:].max() > 0.01


def test_signals_of_shared_and_ragged_rows_equal_those_alone():
    lm = make_tiny_lm()
    lengths = [19, 8, 3]
    tokens = _prompt(19, rows=3)
    prefix = lm.new_cache(3, 19)
    observed = lm.observed_prefill(tokens, prefix, lengths)
    together = prefix.branch(2, 4)
    fed = torch.tensor([11, 50, 90]).repeat_interleave(2)
    found = lm.decode_step(fed, together, [Action(0.4), Action()] * 3, observe=ALL)
    for sequence, length in enumerate(lengths):
        single = lm.new_cache(1, length)
        part = tokens[sequence : sequence + 1, :length]
        alone = lm.observed_prefill(part, single)
        seen = observed.attention_concentration[sequence, :length]
        torch.testing.assert_close(seen, alone.attention_concentration[0], rtol=0, atol=1e-4)
        rows = slice(2 * sequence, 2 * sequence + 2)
        step = lm.decode_step(fed[rows], single.branch(2, 4), [Action(0.4), Action()], observe=ALL)
        for name in ("logits", "attention_concentration", "mid_hidden"):
            torch.testing.assert_close(
                getattr(found, name)[rows], getattr(step, name), rtol=1e-3, atol=1e-3
            )
