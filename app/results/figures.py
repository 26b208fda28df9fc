"""A result as figures and a table: plain data that the page draws; what lacks is left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from app.formats import finite, rounded, verdict_record
from sol_core.actions import AXES, SHORT_AXES, Axis
from sol_core.config import POLICY_PREFIX
from sol_core.reporting.verdict import MEASURES as VERDICT_MEASURES
from sol_core.reporting.verdict import METHOD_LABELS, Verdict, budgets_verdict, gain_of, method_name

Result = dict[str, Any]
MEASURES = ("nll", "kl")
ROLE = "policy"
FORMER = {"gain": "nll_gain", "low": "nll_low", "high": "nll_high"}  # of schema 1
# Costs of a method: the field of a result, and the size of the unit shown.
_COSTS = {
    "bytes": ("bytes_per_token", 1e6),
    "flops": ("flops_per_token", 1e6),
    "net": ("net_keep_rate", 0.01),
}
_ABOUT = (
    *("policy", "policies", "model", "corpus", "texts", "context", "steps", "seed"),
    *("scored_tokens", "elapsed_s"),
)


def method_label(name: str) -> str:
    """A method's name for people; further policies carry their own."""
    return METHOD_LABELS.get(name) or name.removeprefix(POLICY_PREFIX)


def result_view(result: Result) -> dict[str, Any]:
    """An evaluation as its page draws it."""
    budgets, samples = in_roles(result), int(result.get("scored_tokens") or 0)
    baselines = list(dict.fromkeys(name for record in budgets for name in record.get("paired", {})))
    made = {
        "about": {name: result.get(name) for name in _ABOUT},
        "methods": [{"name": name, "label": method_label(name)} for name in _methods(budgets)],
        "baselines": [{"name": name, "label": method_label(name)} for name in baselines],
        "rows": {name: [_row(record, name, samples) for record in budgets] for name in baselines},
        "verdicts": {
            name: {
                measure: verdict_record(evaluation_verdict(result, name, measure))
                for measure in MEASURES
            }
            for name in baselines
        },
        "figures": figures_of(result),
    }
    return dict(rounded(made))


def evaluation_verdict(
    result: Result, baseline: str = "static", measure: str = "kl"
) -> Verdict | None:
    """Judge an evaluation's first policy, also in results of former releases."""
    first = method_name(POLICY_PREFIX + str(result["policy"])) if result.get("policy") else ROLE
    names = first, method_label(baseline)
    samples = int(result.get("scored_tokens") or 0)
    budgets = in_roles(result)
    return budgets_verdict(budgets, ROLE, baseline, names=names, samples=samples, measure=measure)


def in_roles(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Budgets in one shape for all releases: the first method is "policy", others "policy:NAME"."""
    budgets = [
        budget
        for budget in result.get("budgets") or []
        if "requested" in budget and "methods" in budget
    ]
    roles = {}
    if (result.get("schema") or 1) > 1:
        first, *others = result.get("policies") or [ROLE]
        roles = {first: ROLE} | {name: f"{POLICY_PREFIX}{name}" for name in others}
    return [_in_roles(budget, roles) for budget in budgets]


def _in_roles(budget: dict[str, Any], roles: dict[str, str]) -> dict[str, Any]:
    # One with a baseline's name is there by its role.
    known = {name: role for name, role in roles.items() if role not in budget["methods"]}
    methods = {known.get(name, name): method for name, method in budget["methods"].items()}
    paired = {
        known.get(name, name): {FORMER.get(key, key): value for key, value in pair.items()}
        for name, pair in budget.get("paired", {}).items()
    }
    return budget | {"methods": methods} | ({"paired": paired} if paired else {})


def figures_of(result: Result) -> dict[str, Any]:
    """Data of each figure by name; a figure without data is left out."""
    budgets = in_roles(result)
    made = {
        "pareto": _pareto(budgets),
        "violin": _violin(budgets),
        "adherence": _adherence(budgets),
    }
    return {name: rounded(data) for name, data in made.items() if data}


def pareto_front(points: Iterable[Sequence[float]]) -> list[list[float]]:
    """The points (x spend, y loss) that no other beats in both, by rising spend."""
    front: list[list[float]] = []
    for x, y in sorted((point[0], point[1]) for point in points):
        if not front or y < front[-1][1]:
            front.append([x, y])
    return front


def budget_label(requested: dict[str, Any]) -> str:
    """A budget on one line: "50 % attention · 60 % MLP · 8 bits", or "60 % compute"."""
    if "share" in requested:
        return f"{100 * requested['share']:.4g} % compute"
    return " · ".join(axis.text(requested[axis.short]) for axis in AXES if axis.short in requested)


def dense_fraction(axis: Axis, value: float) -> float:
    """A value as a fraction of dense; bits of at most 1 are one already (no width is below 2)."""
    return value / axis.dense if value > 1 else value


def _methods(budgets: list[dict[str, Any]]) -> list[str]:
    """Every method's name, the policy first."""
    names = dict.fromkeys(name for record in budgets for name in record["methods"])
    return sorted(names, key=lambda name: name != "policy")


def _row(record: dict[str, Any], baseline: str, samples: int) -> dict[str, Any]:
    """One budget of the table, the policy against one baseline."""
    methods, paired = record["methods"], record.get("paired", {}).get(baseline, {})
    policy, other = methods.get("policy", {}), methods.get(baseline, {})
    row: dict[str, Any] = {
        "budget": [record["requested"].get(axis) for axis in SHORT_AXES],
        "asked_share": record["requested"].get("share"),
        "shares": [part.get("bytes_share") for part in (policy, other)],
        "spend": [policy.get("spend", {}).get(axis) for axis in SHORT_AXES],
        "other_spend": [other.get("spend", {}).get(axis) for axis in SHORT_AXES],
    }
    for measure in MEASURES:
        gain = [paired.get(f"{measure}_{part}") for part in ("gain", "low", "high")]
        row[measure] = {
            "policy": policy.get(measure),
            "other": other.get(measure),
            "dense": methods.get("dense", {}).get(measure),
            "gain": gain,
            "kind": VERDICT_MEASURES[measure].kind(gain_of(*gain), samples),
            "recovered": record.get("recovered", {}).get(measure),
        }
    return row


def _pareto(budgets: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Per method its points (costs; each loss as [value, low, high]) and fronts; all costs."""
    methods: list[dict[str, Any]] = []
    for name in _methods(budgets):
        points = [
            _pareto_point(record["methods"][name], budget_label(record["requested"]))
            for record in budgets
            if name in record["methods"]
        ]
        if points:
            front = {
                cost: {measure: _front(points, cost, measure) for measure in MEASURES}
                for cost in _COSTS
            }
            label = method_label(name)
            methods.append({"name": name, "label": label, "points": points, "front": front})
    costs = [
        cost
        for cost in _COSTS
        if any(point["costs"][cost] is not None for method in methods for point in method["points"])
    ]
    return {"methods": methods, "costs": costs} if costs else None


def _pareto_point(method: dict[str, Any], label: str) -> dict[str, Any]:
    ends = {
        measure: [finite(method.get(f"{measure}{end}")) for end in ("", "_low", "_high")]
        for measure in MEASURES
    }
    costs = {}
    for cost, (key, unit) in _COSTS.items():
        value = method.get(key)
        costs[cost] = finite(value / unit) if isinstance(value, (int, float)) else None
    return {"label": label, "costs": costs, **ends}


def _front(points: list[dict[str, Any]], cost: str, measure: str) -> list[list[float]]:
    pairs = ((point["costs"][cost], point[measure][0]) for point in points)
    return pareto_front([x, y] for x, y in pairs if x is not None and y is not None)


def _violin(budgets: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Per budget the means of each random schedule, with policy, static and dense beside them."""
    rows = []
    for record in budgets:
        spread = record.get("random") or {}
        if not any(spread.get(measure) for measure in MEASURES):
            continue
        row: dict[str, Any] = {"label": budget_label(record["requested"])}
        for measure in MEASURES:
            row[measure] = {
                name: record["methods"].get(name, {}).get(measure)
                for name in ("policy", "static", "dense")
            }
            values = map(finite, spread.get(measure) or ())
            row[measure]["random"] = [value for value in values if value is not None]
        rows.append(row)
    return {"budgets": rows} if rows else None


def _adherence(budgets: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Per axis [requested, achieved, mean deviation of a text, budget], all as fractions."""
    axes: dict[str, list[list[Any]]] = {axis: [] for axis in SHORT_AXES}
    for record in budgets:
        spend = record["methods"].get("policy", {}).get("spend")
        if not spend or "share" in record["requested"]:
            continue
        episode = record.get("adherence", {}).get("episode", {})
        for axis in AXES:
            asked, spent = (values[axis.short] for values in (record["requested"], spend))
            ends = dense_fraction(axis, asked), dense_fraction(axis, spent)
            label = budget_label(record["requested"])
            axes[axis.short].append([*ends, episode.get(axis.short), label])
    return axes if axes["keep"] else None
