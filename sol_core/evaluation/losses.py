"""Losses text by text, beside an evaluation's result, so that others can run their own tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from sol_core.actions import Budget
from sol_core.evaluation.result import MethodScores, asked_record, axes_record

TextLoss = dict[str, Any]


class EvaluationResult(dict[str, Any]):
    """The JSON of an evaluation (docs/formats.md), with the losses of every text.

    Attributes:
        per_text: a dict per text, budget and method: ``text`` and ``budget`` (their numbers), the
            requested budget (``asked_keep`` …), ``method``, and means over the text's scored
            tokens: ``nll``, ``kl`` (nats per token), ``keep``, ``channels``, ``bits``, and at
            shares of the bytes ``share``.
    """

    def __init__(self, result: Mapping[str, Any], per_text: Sequence[TextLoss] = ()) -> None:
        super().__init__(result)
        self.per_text = tuple(per_text)

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` of ``per_text``; pandas must be installed."""
        return import_module("pandas").DataFrame(self.per_text)


def text_losses(
    number: int, requested: Budget, scores: Mapping[str, MethodScores]
) -> list[TextLoss]:
    """The losses of every text at a budget, method by method."""
    asked = {f"asked_{name}": value for name, value in asked_record(requested).items()}
    rows = []
    for method, of_method in scores.items():
        for text, (nll, kl, spend) in enumerate(
            zip(of_method.nll, of_method.kl, of_method.spend.tolist(), strict=True)
        ):
            row = {"text": text, "budget": number, **asked, "method": method}
            row |= {"nll": float(nll), "kl": float(kl)} | axes_record(spend)
            if requested.bytes_share is not None:
                row["share"] = float(of_method.share[text])
            rows.append(row)
    return rows
