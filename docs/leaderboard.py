"""Methods at equal bytes: measure an entry, and make docs/leaderboard.md of the folder's files.

    .venv/bin/python -m docs.leaderboard measure TEXT NAME    # NAME: sol, paper, quest, teal
    .venv/bin/python -m docs.leaderboard page

An entry of one's own is a schedule with its grid and its path of actions, as ``ENTRIES`` has them.
"""

import argparse
from pathlib import Path

import numpy as np

from sol_core import Action, ActionGrid, Budget, EvaluationResult, MlpPruner, evaluate, load_model
from sol_core.decoding.cost import CostModel
from sol_core.files.paths import default_data_dir
from sol_core.policy.files.locate import locate_policy

FOLDER = Path(__file__).parent / "leaderboard"
PAGE, HEAD = FOLDER.with_suffix(".md"), FOLDER / "head.md"
TEXTS = {"novels": "novels.txt", "builtin": "builtin", "code": "code.txt"}  # docs/reproduce.md
SHARES = (0.9, 0.8, 0.7, 0.6)
EXTENT = {"texts": 4, "windows": 4, "steps": 16, "context": 1024}


def largest(values, kept):
    """Keep so many of each row, the largest: [R, C] and [R] → [R, C]."""
    rank = values.abs().argsort(-1, descending=True).argsort(-1)
    return values.masked_fill(rank >= kept[:, None], 0)


TEAL = MlpPruner(
    name="teal",
    fractions=lambda ratio, split: (ratio, ratio),
    ratio=lambda of_bytes: of_bytes,
    keep_input=largest,
    keep_inner=lambda inner, norms, kept: largest(inner, kept),
)


class Constant:
    """The budget at every step."""

    def __init__(self, budget):
        self.action = Action(budget.keep_fraction, budget.channel_keep_ratio)

    def __call__(self, observation):
        return self.action


LEVELS = tuple(step / 50 for step in range(1, 51))  # low enough for every share
# By name: the grid, and (attention, MLP) from dense down, the corners of the method's path.
ENTRIES = {
    "paper": (ActionGrid(channel_keep_ratios=LEVELS), ((1, 1), (0.1, 1), (0.1, LEVELS[0]))),
    "quest": (ActionGrid(), ((1, 1), (0.1, 1))),
    "teal": (ActionGrid(mlp_pruning=TEAL, channel_keep_ratios=LEVELS), ((1, 1), (1, LEVELS[0]))),
}


def budgets_of(model, grid, corners):
    """The budgets of a path that read the shares; those that it cannot reach are left out."""
    costs, context = CostModel.of(model.lm, grid), EXTENT["context"] + EXTENT["steps"] * 2

    def at(point):
        axes = zip(*corners, strict=True)
        return Budget(*(float(np.interp(point, range(len(corners)), axis)) for axis in axes))

    def share(point):
        return costs.bytes_share(at(point), context)

    budgets = []
    for wanted in SHARES:
        low, high = 0.0, len(corners) - 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if share(middle) > wanted else (low, middle)
        if abs(share(high) - wanted) < 0.005:
            budgets.append(at(high))
    return tuple(budgets)


def measure(text, name):
    """Write the result of one entry on one text into the folder."""
    model, options = load_model(), EXTENT | {"corpus": TEXTS[text]}
    if name == "sol":
        methods = {"policy": locate_policy("default", default_data_dir())}
        budgets = tuple(map(Budget.share, SHARES))
        baselines = ("static", "emc", "dac")
        made = evaluate(model, methods, budgets=budgets, baselines=baselines, **options)
    else:
        grid, corners = ENTRIES[name]
        budgets = budgets_of(model, grid, corners)
        options |= {"budgets": budgets, "baselines": ("static",)}
        made = evaluate(model, {name: Constant}, grid=grid, **options)
    # Without this machine's folder, which ``python -m`` puts into the arguments.
    made["made_with"]["command"] = f"python -m docs.leaderboard measure {text} {name}"
    made.save(FOLDER / f"{text}-{name}.json")


def page(folder=FOLDER):
    """The document: per text a table of KL to dense by method and share of the bytes."""
    parts = [HEAD.read_text("utf-8")]
    for text in TEXTS:
        results = [EvaluationResult.load(path) for path in sorted(folder.glob(f"{text}-*.json"))]
        if not results:
            continue
        cells = {}
        for result in results:
            for budget in result["budgets"]:
                for method, row in budget["methods"].items():
                    if method not in ("dense", "line") and not (
                        method == "static" and "share" not in budget["requested"]
                    ):
                        near = min(SHARES, key=lambda share: abs(share - row["bytes_share"]))
                        wanted = budget["requested"].get("share", near)
                        cells.setdefault(method, {})[wanted] = row
        first = results[0]
        parts.append(
            f"\n## {text}\n\n{first['scored_tokens']} tokens after {first['context']:,}; text "
            f"`{first['corpus_fingerprint'][:16]}…`; {first['made_with']['processor']}, "
            f"{first['made_with']['dtype']}.\n\n| method | "
            + " | ".join(f"{share:.0%}" for share in SHARES)
            + " |\n|---|"
            + "---|" * len(SHARES)
        )
        for method, by_share in sorted(cells.items(), key=lambda item: _order(item[1])):
            row = [_cell(by_share.get(share), share) for share in SHARES]
            parts.append(f"| {method} | {' | '.join(row)} |")
    return "\n".join(parts) + "\n"


def _order(by_share):
    return (-len(by_share), sum(row["kl"] for row in by_share.values()))


def _cell(row, share):
    if row is None:
        return "not reached"
    read = row["bytes_share"]
    other = f" at {read:.0%}" if abs(read - share) > 0.01 else ""
    kl, low, high = (f"{row[end]:.2g}" for end in ("kl", "kl_low", "kl_high"))
    return f"{kl} ({low} to {high}){other}"


def main():
    """Measure an entry, or write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("measure", "page"))
    parser.add_argument("text", nargs="?", choices=TEXTS)
    parser.add_argument("name", nargs="?", choices=("sol", *ENTRIES))
    asked = parser.parse_args()
    if asked.what == "measure":
        measure(asked.text, asked.name)
    else:
        PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
