"""Words of the Lab's forms where a dataclass has none of its own."""

from __future__ import annotations

from app.pages.lab.accuracy_view import TASKS
from app.pages.lab.schema_form import SchemaForm
from sol_core.actions import AXES, MLP_PRUNERS, PAGE_SCORERS
from sol_core.evaluation.config import EvaluationConfig
from sol_core.tasks.config import TasksConfig
from sol_core.training.config import NOMINAL_MINUTES, TrainConfig

GRID_HELP = {
    **{axis.levels_field: axis.meaning for axis in AXES},
    "quant_site": "which side of the MLP is quantised; the output is what papers report",
    "page_scorer": "what pages are chosen by: "
    + ", or ".join(scorer.meaning for scorer in PAGE_SCORERS.values()),
    "page_choice": "who chooses pages: every query head, or the heads of a KV group together",
    "page_budget": "what a level of attention is: so many pages in each layer, or a mean that "
    "layers and steps take a share of as they need",
    "head": "how the vocabulary's weights are read: whole, or a 4-bit preview and then exactly "
    "those of the likely tokens",
    "mlp_pruning": "which channels of the MLP are dropped: "
    + ", or ".join(pruner.meaning for pruner in MLP_PRUNERS.values()),
    "page_size": "cached tokens per page; pages are kept or left as a whole",
}
_TAKES = {
    name: f" About {minutes:g} minutes on two CPU cores."
    for name, minutes in NOMINAL_MINUTES.items()
}
PRESET_WORDS = {
    "quick": ("Quick", f"A first look: a small policy that already saves.{_TAKES['quick']}"),
    "standard": (
        "Standard",
        "The default: warm start on many texts, then learning from rollouts (GRPO)."
        + _TAKES["standard"],
    ),
    "share": (
        "Shares",
        "For budgets that are a share of the bytes: a small network that sees long texts."
        + _TAKES["share"],
    ),
    "paper": (
        "Paper",
        "The authors' own recipe, for comparison: joint network, rollouts (GRPO) alone."
        + _TAKES["paper"],
    ),
    "defaults": ("Defaults", ""),
}
TRAIN_FORM = SchemaForm(
    TrainConfig,
    elsewhere=("corpus", "grid.mlp_split"),  # a picker's; measured, not chosen
    labels={
        "policy": "Policy network",
        "warm_start": "Warm start",
        "grpo": "Rollouts (GRPO)",
        "grid": "Action grid",
        "num_heads": "Heads",
        "quant_site": "Quantisation site",
        "head": "Vocabulary",
        **{axis.levels_field: f"{axis.name}: levels" for axis in AXES},
        "held_out_texts": "Held-out texts",
        "checkpoint_seconds": "Checkpoint every (s)",
        "time_limit_minutes": "Time limit (min)",
        "max_gradient_norm": "Gradient limit",
        "penalty": "Gap penalty",
    },
    helps=GRID_HELP,
    choices={
        "page_scorer": {name: scorer.label for name, scorer in PAGE_SCORERS.items()},
        "mlp_pruning": {name: pruner.label for name, pruner in MLP_PRUNERS.items()},
        "reward": {"kl": "KL to dense", "nll": "Log-likelihood"},
        "budget": {"price": "Price per axis", "penalty": "Squared gap"},
        "quant_site": {"mlp_output": "MLP output", "mlp_input": "MLP input"},
        "page_choice": {"head": "Every head", "group": "KV groups"},
        "page_budget": {"count": "So many pages", "need": "By need"},
    },
)
EVALUATE_FORM = SchemaForm(
    EvaluationConfig,
    elsewhere=("corpus",),
    labels={"windows": "Windows per text", "sampled": "Also sampled", "pollution": "KV pollution"},
)
TASKS_FORM = SchemaForm(
    TasksConfig,
    labels={"limit": "Questions of each task", "contexts": "Lengths of recall"},
    choices={"tasks": {name: f"{label}: {meaning}" for name, (label, meaning) in TASKS.items()}},
)
