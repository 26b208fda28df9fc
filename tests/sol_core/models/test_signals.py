"""What a step and a prefill let a policy observe."""

from __future__ import annotations

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


def _prompt(length: int, rows: int = 1) -> torch.Tensor:
    return torch.randint(3, 199, (rows, length), generator=torch.Generator().manual_seed(1))


def test_mass_outside_by_hand() -> None:
    scores = torch.tensor([[[0.0, 2.0, 1.0, 9.0, 2.0]]])
    valid = torch.tensor([[True, True, True, False, True]])
    tokens = torch.tensor([[4, 4, 4, 0, 1]])
    # Four valid pages weigh 4, 4e², 4e and e²; the best two of 0.4 · 4 are kept.
    weights = sorted([4.0, 4 * math.exp(2), 4 * math.exp(1), math.exp(2)])
    expected = sum(weights[:2]) / sum(weights)
    found = page_mass_outside(scores, valid, tokens, 0.4)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_one_page_leaves_nothing_outside() -> None:
    found = page_mass_outside(torch.randn(2, 3, 1), torch.ones(2, 1) > 0, torch.ones(2, 1), 0.4)
    assert found.tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("family", ["llama-gqa-tied", "mistral-window", "gemma3", "qwen3-mha"])
@pytest.mark.parametrize(
    ("how", "chunk_scores"),
    [(GRIDS["default"].mechanisms, 1), (GRIDS["default"].mechanisms, 2**22)]
    + [(Mechanisms(page_scorer=name), 1) for name in PAGE_SCORERS],
    ids=lambda value: getattr(value, "page_scorer", value),
)
def test_prefill_observes_what_dense_steps_observe(
    family: str, how: Mechanisms, chunk_scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals_module, "_SCORES_PER_CHUNK", chunk_scores)
    lm = make_tiny_lm(family)
    tokens = _prompt(PROMPT, rows=2)
    whole, chunked = lm.new_cache(2, PROMPT), lm.new_cache(2, PROMPT)
    plain = lm.prefill(tokens, lm.new_cache(2, PROMPT))
    output = lm.prefill(tokens, whole, mechanisms=how, observe=True)
    assert torch.equal(output.hidden, plain)
    lm.prefill(tokens[:, :11], chunked)
    late = lm.prefill(tokens[:, 11:], chunked, mechanisms=how, observe=True)
    torch.testing.assert_close(
        late.attention_concentration, output.attention_concentration[:, 11:], rtol=0, atol=1e-4
    )
    some = torch.tensor([0, 3, 17])
    part = lm.prefill(tokens, lm.new_cache(2, PROMPT), mechanisms=how, observe=True, observed=some)
    torch.testing.assert_close(
        part.attention_concentration, output.attention_concentration[:, some], rtol=0, atol=1e-6
    )
    assert torch.equal(part.mid_hidden, output.mid_hidden[:, some])
    stepped = lm.new_cache(2, PROMPT)
    for position in range(PROMPT):
        step = lm.decode_step(tokens[:, position], stepped, mechanisms=how, observe=ALL)
        assert step.attention_concentration is not None
        assert step.mid_hidden is not None
        torch.testing.assert_close(
            step.attention_concentration,
            output.attention_concentration[:, position],
            rtol=0,
            atol=1e-4,
        )
        torch.testing.assert_close(
            step.mid_hidden, output.mid_hidden[:, position], rtol=1e-3, atol=1e-3
        )
    assert output.attention_concentration[:, 8:].max() > 0.01


def test_observing_changes_no_bit_and_is_off_by_default() -> None:
    lm = make_tiny_lm()
    prefix = lm.new_cache(1, PROMPT)
    lm.prefill(_prompt(PROMPT), prefix)
    rows = [Action(), Action(0.3, 0.5, 6), Action(0.5)]
    token = torch.full((3,), 7)
    plain = lm.decode_step(token, prefix.branch(3, 1), rows)
    seen = lm.decode_step(token, prefix.branch(3, 1), rows, observe=ALL)
    states = lm.decode_step(token, prefix.branch(3, 1), rows, observe=Observe.STATES)
    assert torch.equal(plain.logits, seen.logits)
    assert torch.equal(plain.logits, states.logits)
    assert states.attention_concentration is None
    assert states.mid_hidden is not None
    assert seen.mid_hidden is not None
    assert torch.equal(states.mid_hidden, seen.mid_hidden)
    assert plain.attention_concentration is None
    assert plain.mid_hidden is None


def test_signals_of_shared_and_ragged_rows_equal_those_alone() -> None:
    lm = make_tiny_lm()
    lengths = [19, 8, 3]
    tokens = _prompt(19, rows=3)
    prefix = lm.new_cache(3, 19)
    observed = lm.prefill(tokens, prefix, lengths, observe=True)
    together = prefix.branch(2, 4)
    fed = torch.tensor([11, 50, 90]).repeat_interleave(2)
    found = lm.decode_step(fed, together, [Action(0.4), Action()] * 3, observe=ALL)
    for sequence, length in enumerate(lengths):
        single = lm.new_cache(1, length)
        part = tokens[sequence : sequence + 1, :length]
        alone = lm.prefill(part, single, observe=True)
        torch.testing.assert_close(
            observed.attention_concentration[sequence, :length],
            alone.attention_concentration[0],
            rtol=0,
            atol=1e-4,
        )
        rows = slice(2 * sequence, 2 * sequence + 2)
        step = lm.decode_step(fed[rows], single.branch(2, 4), [Action(0.4), Action()], observe=ALL)
        for name in ("attention_concentration", "mid_hidden"):
            torch.testing.assert_close(
                getattr(found, name)[rows], getattr(step, name), rtol=1e-3, atol=1e-3
            )
