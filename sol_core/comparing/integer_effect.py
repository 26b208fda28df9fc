"""Effect of int8 MLP weights: the error of each matrix, and NLL against the model without."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sol_core.actions import Mechanisms
from sol_core.comparing.scoring import ScoreCase, score_case
from sol_core.models import FrozenLM
from sol_core.models.integer_mlp import integer_mlp_errors, without_integer_mlp
from sol_core.models.loading import LanguageModel
from sol_core.models.step.plan import takes_integers


@dataclass(frozen=True, slots=True)
class IntegerEffect:
    """Measured on scored cases.

    Attributes:
        weight_errors: ‖W − Ŵ‖ / ‖W‖ of each int8 matrix, by name ("layers.3.down").
        steps: scored steps of schedules with at least one step in whole numbers.
        nats: their mean NLL minus that of the same schedules without int8 weights, nats;
            None when there are none. absolute_nats: mean size of that difference.
    """

    weight_errors: dict[str, float]
    steps: int
    nats: float | None
    absolute_nats: float | None


def measure_integer_effect(
    model: LanguageModel, cases: Sequence[ScoreCase], nll: Sequence[list[list[float]]]
) -> IntegerEffect:
    """Score the cases again without int8 weights, and compare.

    Args:
        model: loaded with ``integer_mlp=True``.
        cases: as they were scored with ``quant_site="mlp_input"``.
        nll: per case, [schedules][steps] nats.
    Raises: ConfigError, ContextLengthError.
    """
    floats = FrozenLM(model.spec, without_integer_mlp(model.lm.weights))
    plain = dataclasses.replace(model, lm=floats)
    differences: list[float] = []
    for case, losses in zip(cases, nll, strict=True):
        affected = [
            any(takes_integers(action, "mlp_input") for action in schedule)
            for schedule in case.schedules
        ]
        if not any(affected):
            continue
        expected = score_case(plain, case, Mechanisms(quant_site="mlp_input"))
        for hit, mine, theirs in zip(affected, losses, expected, strict=True):
            if hit:
                differences += [a - b for a, b in zip(mine, theirs, strict=True)]
    errors = integer_mlp_errors(model.lm.weights)
    if not differences:
        return IntegerEffect(errors, 0, None, None)
    absolute = statistics.fmean(abs(difference) for difference in differences)
    return IntegerEffect(errors, len(differences), statistics.fmean(differences), absolute)
