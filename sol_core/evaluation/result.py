"""The result of an evaluation as JSON (docs/formats.md).

"random_best" is the random schedule with the lowest NLL over all texts. (Choosing per rollout would
peek at the answer: with 30 schedules, the result was below the dense model.)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from sol_core.actions import AXES, DENSE, SHORT_AXES, Budget
from sol_core.config import POLICY_PREFIX
from sol_core.errors import ConfigError
from sol_core.evaluation.passes import PolicyPass, Row, TablePass
from sol_core.evaluation.rollout import Floats
from sol_core.evaluation.statistics import PairedBootstrap
from sol_core.reporting.figures import Line, Panel, html_table, plot
from sol_core.reporting.verdict import MEASURES, Verdict, budgets_verdict, method_name

ValueT = TypeVar("ValueT")
TextLoss = dict[str, Any]
SCHEMA = 3
SHARE_TOLERANCE = 0.01  # of dense bytes, for matched baselines
SPEND_TOLERANCE = tuple(0.01 * axis.dense for axis in AXES)  # for matched baselines
_WORDS = {"good": "better", "bad": "worse", "open": "no difference shown"}  # in a record
MIN_GAP = 1e-6  # nats; if static loses less, no fraction can be recovered


class MethodScores(NamedTuple):
    """Losses of one method at one budget, by text."""

    nll: Floats  # [texts] nats per token
    kl: Floats  # [texts] nats per token
    spend: Floats  # [texts, axes]
    share: Floats  # [texts] of the dense step's bytes; 0 if not counted
    num_bytes: Floats  # [texts]; 0 if not counted

    def by_text(self, windows: int) -> MethodScores:
        """Average rollouts over the windows of each text."""
        return MethodScores(
            *(values.reshape(-1, windows, *values.shape[1:]).mean(1) for values in self)
        )


class EvaluationResult(dict[str, Any]):
    """The JSON of an evaluation (docs/formats.md), with the losses of every text.

    Attributes:
        per_text: a dict per text, budget and method: ``text`` and ``budget`` (their indices), the
            requested budget (``asked_keep`` …), ``method``, whether it is ``matched`` (it spent as
            much as the first method over all texts), and means over the text's scored tokens:
            ``nll``, ``kl`` (nats per token), ``keep``, ``channels``, ``bits``, and for shares of
            the bytes, ``share``.
    """

    def __init__(self, result: Mapping[str, Any], per_text: Sequence[TextLoss] = ()) -> None:
        super().__init__(result)
        self.per_text = tuple(per_text)

    def verdict(self, baseline: str = "static", measure: str = "kl") -> Verdict | None:
        """Judge the first method against a baseline by "kl" or "nll"; None if not compared."""
        first = str(self["policy"])
        budgets: list[dict[str, Any]] = self["budgets"]
        key = first if first in budgets[0]["methods"] else "policy"
        return budgets_verdict(
            budgets,
            key,
            baseline,
            names=(method_name(POLICY_PREFIX + first), method_name(baseline)),
            samples=self["scored_tokens"],
            measure=measure,
        )

    def to_pandas(self) -> Any:
        """Return ``per_text`` as a ``pandas.DataFrame``; requires pandas."""
        return import_module("pandas").DataFrame(self.per_text)

    def _repr_html_(self) -> str:
        """Show losses with 95 % intervals by budget and method in a notebook."""
        rows = [
            (
                ", ".join(f"{axis} {asked:.4g}" for axis, asked in budget["requested"].items()),
                name,
                *(_interval(row, loss) for loss in ("nll", "kl")),
                f"{row['bytes_share']:.1%}" if "bytes_share" in row else "",
            )
            for budget in self["budgets"]
            for name, row in budget["methods"].items()
        ]
        head = ("budget", "method", "NLL, nats", "KL to dense, nats", "bytes")
        about = f"{self['scored_tokens']:,} tokens of {self['corpus']} after {self['context']:,}"
        return f"<p>{escape(about)}</p>{html_table(head, rows)}"

    def plot(self) -> Any:
        """Plot KL to the full model by share of the bytes, with 95 % intervals."""
        points: dict[str, list[tuple[float, ...]]] = {}
        for budget in self["budgets"]:
            for name, row in budget["methods"].items():
                if name != "dense":
                    ends = row["kl_low"], row["kl_high"]
                    points.setdefault(name, []).append((row["bytes_share"], row["kl"], *ends))
        lines = [
            Line(name, *map(list, zip(*sorted(of_method), strict=True)))
            for name, of_method in points.items()
        ]
        return plot([Panel("share of the full model's bytes", "KL to dense, nats", lines)])

    def save(self, path: str | Path) -> None:
        """Write the JSON with its SHA-256, which reveals later changes."""
        whole = self | {"sha256": _sha256(self)}
        Path(path).write_text(json.dumps(whole, allow_nan=False, indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, path: str | Path) -> EvaluationResult:
        """Read a saved result. Raises: ConfigError for a file that was changed."""
        record = json.loads(Path(path).read_text("utf-8"))
        if record.pop("sha256", None) != _sha256(record):
            raise ConfigError(f"{path} is not what was measured: its sha256 is another one")
        return cls(record)


def _interval(row: Mapping[str, Any], loss: str) -> str:
    return f"{row[loss]:.4f} ({row[f'{loss}_low']:.4f} to {row[f'{loss}_high']:.4f})"


def _sha256(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def method_scores(
    budget: int, policies: PolicyPass, others: Sequence[TablePass]
) -> dict[str, MethodScores]:
    """Return each method's scores at one budget by role, the policy first."""
    count = len(policies.dense_nll)
    methods = {
        row.method: _at(table, column)
        for table in (policies, *others)
        for row, column in table.columns.items()
        if row.budget == budget and row.method != "random"
    }
    methods["dense"] = MethodScores(
        policies.dense_nll,
        np.zeros(count),
        np.tile(DENSE.as_tuple(), (count, 1)),
        np.ones(count),
        policies.dense_bytes,
    )
    for table in others:
        if columns := table.random_columns(budget):
            best = table.nll[:, columns].mean(axis=0).argmin()
            methods["random_best"] = _at(table, columns[int(best)])
    # The windows of a text are not independent samples.
    windows = policies.setting.config.windows
    return {name: scores.by_text(windows) for name, scores in methods.items()}


def budget_record(
    index: int,
    policies: PolicyPass,
    baselines: TablePass,
    scores: Mapping[str, MethodScores],
    bootstrap: PairedBootstrap,
) -> dict[str, Any]:
    """Return the record of one budget, by the methods' roles."""
    policy, static, dense = (scores[name] for name in ("policy", "static", "dense"))
    requested = policies.setting.config.budgets[index]
    columns = baselines.random_columns(index)
    methods = {
        name: _method_record(method, policy, dense, bootstrap) for name, method in scores.items()
    }
    # Dense is the reference and always compared.
    compared = {name for name, made in methods.items() if made["matched"]} | {"dense"}
    pairs = {
        name: _paired_record(method, policy, bootstrap, policies.setting.config.scored_tokens)
        for name, method in scores.items()
        if name != "policy"
    }
    is_matched = methods["static"]["matched"]
    return {
        "requested": asked_record(requested),
        "methods": methods,
        "paired": {
            name: pair if name in compared else dict.fromkeys(pair) for name, pair in pairs.items()
        },
        "recovered": {
            "nll": _recovered(static.nll, policy.nll, dense.nll) if is_matched else None,
            "kl": _recovered(static.kl, policy.kl, dense.kl) if is_matched else None,
        },
        "random": {
            "nll": baselines.nll[:, columns].mean(0).tolist(),
            "kl": baselines.kl[:, columns].mean(0).tolist(),
        },
        "adherence": _adherence(policies, index, requested),
    }


def text_losses(
    number: int,
    requested: Budget,
    scores: Mapping[str, MethodScores],
    methods: Mapping[str, Mapping[str, Any]],  # their records
) -> list[TextLoss]:
    """Return the losses of each text at a budget, by method."""
    asked = {f"asked_{name}": value for name, value in asked_record(requested).items()}
    rows = []
    for method, of_method in scores.items():
        for text, (nll, kl, spend) in enumerate(
            zip(of_method.nll, of_method.kl, of_method.spend.tolist(), strict=True)
        ):
            row = {"text": text, "budget": number, **asked, "method": method}
            row |= {"matched": methods[method]["matched"], "nll": float(nll), "kl": float(kl)}
            row |= axes_record(spend)
            if requested.bytes_share is not None:
                row["share"] = float(of_method.share[text])
            rows.append(row)
    return rows


def by_own_names(
    part: Mapping[str, ValueT],  # by role
    names: Sequence[str],  # of the policies and schedules, in order
) -> dict[str, ValueT]:
    """Rename roles to the methods' names; a name that a baseline has keeps its role."""
    first, *others = names
    own = {"policy": first} | {f"policy:{name}": name for name in others}
    taken = {*part} - {"policy"}
    return {
        role if own.get(role) in taken else own.get(role, role): value
        for role, value in part.items()
    }


def _at(table: TablePass, column: int) -> MethodScores:
    values = (table.nll, table.kl, table.spend, table.share, table.num_bytes)
    return MethodScores(*(value[:, column] for value in values))


def _method_record(
    method: MethodScores, policy: MethodScores, dense: MethodScores, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    spend = method.spend.mean(axis=0)
    gaps = np.abs(spend - policy.spend.mean(axis=0))
    nll = float(method.nll.mean())
    record = {
        "nll": nll,
        "kl": float(method.kl.mean()),
        "perplexity": math.exp(min(nll, 700.0)),
        "net_keep_rate": Budget(*spend.tolist()).net_keep_rate,
        "spend": axes_record(spend.tolist()),
        "matched": bool((gaps <= np.asarray(SPEND_TOLERANCE) + 1e-9).all()),
    }
    if dense.num_bytes.any():  # counted, and matched
        share = float(method.share.mean())
        record |= {
            "bytes_share": share,
            "bytes_per_token": float(method.num_bytes.mean()),
            "dense_bytes_per_token": float(dense.num_bytes.mean()),
            "matched": bool(abs(share - float(policy.share.mean())) <= SHARE_TOLERANCE),
        }
    for measure in ("nll", "kl"):
        # Dense's loss plus the 95 % interval of the loss beyond dense.
        base = getattr(dense, measure)
        lost = bootstrap.interval(getattr(method, measure) - base)
        record[f"{measure}_low"] = float(base.mean()) + lost.low
        record[f"{measure}_high"] = float(base.mean()) + lost.high
    return record


def _paired_record(
    baseline: MethodScores, policy: MethodScores, bootstrap: PairedBootstrap, scored_tokens: int
) -> dict[str, Any]:
    gains, verdicts = dict[str, Any](), dict[str, Any]()
    for measure in ("nll", "kl"):
        gain = bootstrap.interval(getattr(baseline, measure) - getattr(policy, measure))
        ends = {"gain": gain.mean, "low": gain.low, "high": gain.high}
        gains |= {f"{measure}_{name}": value for name, value in ends.items()}
        verdicts[f"{measure}_verdict"] = _WORDS[MEASURES[measure].kind(gain, scored_tokens)]
    return gains | verdicts


def _recovered(static: Floats, policy: Floats, dense: Floats) -> float | None:
    """Return (static − policy) / (static − dense); None if static loses nothing."""
    lost = float(static.mean() - dense.mean())
    return float(static.mean() - policy.mean()) / lost if lost > MIN_GAP else None


def _adherence(policies: PolicyPass, index: int, requested: Budget) -> dict[str, dict[str, float]]:
    """Return the policy's deviation from its budget: mean, and mean magnitude over rollouts."""
    names, column = SHORT_AXES, policies.columns[Row("policy", index)]
    gaps = (policies.spend[:, column] - np.asarray(requested.as_tuple())) / [
        axis.dense for axis in AXES
    ]
    if requested.bytes_share is not None:
        names, gaps = ("share",), policies.share[:, column, None]
        gaps = gaps - requested.bytes_share
    kinds = {"gap": gaps.mean(0), "episode": np.abs(gaps).mean(0)}
    return {kind: dict(zip(names, means.tolist(), strict=True)) for kind, means in kinds.items()}


def asked_record(budget: Budget) -> dict[str, float]:
    """Return a requested budget as ``{"share", "bits"}``, or a number per axis."""
    if budget.bytes_share is not None:
        return {"share": budget.bytes_share, "bits": budget.bit_width}
    return axes_record(budget.as_tuple())


def axes_record(values: Sequence[float]) -> dict[str, float]:
    """Return values keyed by the axes' short names."""
    return dict(zip(SHORT_AXES, values, strict=True))
