"""Int8 MLP weights in the decode step: which rows use them, and what they change."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sol_core.actions import DENSE, GRIDS, PAPER, Action, Mechanisms, QuantSite
from sol_core.comparing.integer_effect import measure_integer_effect
from sol_core.comparing.scoring import ScoreCase, score_case
from sol_core.models import FrozenLM
from sol_core.models.integer_mlp import (
    integer_mlp_errors,
    with_integer_mlp,
    without_integer_mlp,
)
from sol_core.models.weights import ModelWeights
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_models import make_tiny_lm

FAMILIES = ["llama-mqa-bias", "gemma3"]
AT_INPUT = Mechanisms(quant_site="mlp_input")
LOW = Action(0.5, 0.6, 7)


def _with_integers(lm: FrozenLM) -> FrozenLM:
    return FrozenLM(lm.spec, with_integer_mlp(lm.weights))


def _logits(
    lm: FrozenLM,
    actions: list[Action],
    site: QuantSite = "mlp_input",
    steps: int = 3,
    how: Mechanisms = PAPER,
) -> torch.Tensor:
    """[steps, R, V] after a shared prefix."""
    cache = lm.new_cache(1, 24)
    lm.prefill(torch.arange(3, 16)[None], cache)
    rows = cache.branch(len(actions), steps)
    tokens = torch.full((len(actions),), 7)
    return torch.stack(
        [
            lm.decode_step(
                tokens + n, rows, actions, mechanisms=dataclasses.replace(how, quant_site=site)
            ).logits
            for n in range(steps)
        ]
    )


def _already_rounded(weights: ModelWeights) -> ModelWeights:
    """Weights that lose nothing in int8: numbers · scales of their own copies."""
    layers = []
    for layer in with_integer_mlp(weights).layers:
        copies = layer.integer_mlp
        assert copies is not None
        gate_up, down = (m.numbers.float() * m.scales for m in (copies.gate_up, copies.down))
        layers.append(
            dataclasses.replace(
                layer,
                gate_up=dataclasses.replace(layer.gate_up, weight=gate_up.contiguous()),
                down=dataclasses.replace(layer.down, weight=down.contiguous()),
                integer_mlp=None,
            )
        )
    return dataclasses.replace(weights, layers=tuple(layers))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("actions", [[LOW], [LOW, Action(1.0, 1.0, 8)], [LOW, DENSE, LOW, LOW]])
def test_with_weights_that_int8_holds_the_step_is_the_float_step(
    family: str, actions: list[Action], grid: str
) -> None:
    """One difference is left: a sum in another order may flip a rounding of down's input."""
    lm = make_tiny_lm(family)
    rounded = FrozenLM(lm.spec, _already_rounded(lm.weights))
    how = GRIDS[grid].mechanisms
    found = _logits(_with_integers(rounded), actions, steps=1, how=how)
    expected = _logits(rounded, actions, steps=1, how=how)
    close = (found - expected).abs() <= 1e-4
    assert close.float().mean() > 0.5
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


def test_rows_above_eight_bits_do_not_notice(one_thread: None) -> None:
    lm = make_tiny_lm("llama3-rope")
    actions = [LOW, DENSE, Action(0.5, 0.6, 9), Action(1.0, 0.5, 16), LOW]
    found, expected = _logits(_with_integers(lm), actions), _logits(lm, actions)
    torch.testing.assert_close(found[:, 1:4], expected[:, 1:4], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[:, [0, 4]], expected[:, [0, 4]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("action", "site"), [(LOW, "mlp_output"), (Action(0.5, 0.6, 9), "mlp_input")]
)
@pytest.mark.parametrize("rows", [1, 5])
def test_other_steps_are_the_same_bit_for_bit(action: Action, site: QuantSite, rows: int) -> None:
    lm = make_tiny_lm("llama3-rope")
    found = _logits(_with_integers(lm), [action] * rows, site)
    assert torch.equal(found, _logits(lm, [action] * rows, site))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_originals_stay_and_every_matrix_has_its_error(family: str) -> None:
    lm = make_tiny_lm(family)
    weights = with_integer_mlp(lm.weights)
    for mine, original in zip(weights.layers, lm.weights.layers, strict=True):
        assert mine.gate_up is original.gate_up
        assert mine.down is original.down
    assert not FrozenLM(lm.spec, without_integer_mlp(weights)).has_integer_mlp
    errors = integer_mlp_errors(weights)
    names = [f"layers.{n}.{m}" for n in range(lm.spec.num_layers) for m in ("gate_up", "down")]
    assert list(errors) == names
    assert all(0.001 < error < 0.01 for error in errors.values())
    assert integer_mlp_errors(lm.weights) == {}


def test_the_effect_is_measured_on_schedules_that_use_integers() -> None:
    model = make_language_model()
    model = dataclasses.replace(model, lm=_with_integers(model.lm))
    ids = tuple(range(5, 17))
    plain = ScoreCase(ids, 6, ((DENSE,) * 4,))
    mixed = ScoreCase(ids, 6, ((DENSE,) * 4, (DENSE, LOW, LOW, DENSE)))
    nll = [score_case(model, case, AT_INPUT) for case in (plain, mixed)]
    effect = measure_integer_effect(model, [plain, mixed], nll)
    lm = FrozenLM(model.spec, without_integer_mlp(model.lm.weights))
    floats = score_case(dataclasses.replace(model, lm=lm), mixed, AT_INPUT)
    differences = [a - b for a, b in zip(nll[1][1], floats[1], strict=True)]
    assert effect.steps == 4
    assert effect.nats == pytest.approx(sum(differences) / 4)
    assert effect.absolute_nats == pytest.approx(sum(map(abs, differences)) / 4)
    assert effect.absolute_nats > 0
    alone = measure_integer_effect(model, [plain], nll[:1])
    assert (alone.steps, alone.nats, alone.absolute_nats) == (0, None, None)
