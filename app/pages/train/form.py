"""The training form, made from the fields of the configuration's dataclasses.

The page speaks flat values ("grpo.updates": 100, levels as text); ``config_from_form`` checks
them and makes the configuration, ``form_from_config`` goes back.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

from sol_core.actions import AXES, MLP_PRUNERS, PAGE_SCORERS
from sol_core.errors import ConfigError
from sol_core.fields import from_json
from sol_core.training.config import TrainConfig

# The corpus has a picker of its own; the MLP's split is measured, not chosen.
_ELSEWHERE = ("corpus", "grid.mlp_split")
_TABLES: dict[str, Mapping[str, Any]] = {"page_scorer": PAGE_SCORERS, "mlp_pruning": MLP_PRUNERS}
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
_TITLES = {
    "": "Run",
    "policy": "Policy network",
    "warm_start": "Warm start",
    "grpo": "Rollouts (GRPO)",
    "grid": "Action grid",
}
_NAMES = {
    "num_heads": "Heads",
    "quant_site": "Quantisation site",
    "head": "Vocabulary",
    **{axis.levels_field: f"{axis.name}: levels" for axis in AXES},
    "held_out_texts": "Held-out texts",
    "calibration_texts": "Calibration texts",
    "checkpoint_seconds": "Checkpoint every (s)",
    "time_limit_minutes": "Time limit (min)",
    "max_gradient_norm": "Gradient limit",
    "penalty": "Gap penalty",
}
_WORDS = {
    "kl": "KL to dense",
    "nll": "Log-likelihood",
    "price": "Price per axis",
    "penalty": "Squared gap",
    "mlp_output": "MLP output",
    "mlp_input": "MLP input",
    "head": "Every head",
    "group": "KV groups",
    "count": "So many pages",
    "need": "By need",
}


def form_groups() -> list[dict[str, Any]]:
    """The form as data: groups in the order of the dataclass, each with its fields.

    A field has name, label, kind ("integer", "number", "optional", "toggle", "text",
    "choice" or "levels"), help, and for a choice its words with their labels.
    """
    own: dict[str, Any] = {"key": "", "title": _TITLES[""], "help": "", "fields": []}
    groups = [own]
    hints = typing.get_type_hints(TrainConfig)
    for item in dataclasses.fields(TrainConfig):
        if item.name in _ELSEWHERE:
            continue
        if not dataclasses.is_dataclass(hints[item.name]):
            own["fields"].append(_field(item.name, item, hints[item.name]))
            continue
        inner = typing.get_type_hints(hints[item.name])
        groups.append(
            {
                "key": item.name,
                "title": _TITLES.get(item.name, _label(item.name)),
                "help": _sentence(item.metadata.get("help", "")),
                "fields": [
                    _field(f"{item.name}.{part.name}", part, inner[part.name])
                    for part in dataclasses.fields(hints[item.name])
                    if f"{item.name}.{part.name}" not in _ELSEWHERE
                ],
            }
        )
    return groups


def form_from_config(config: TrainConfig) -> dict[str, Any]:
    """Flat values of every field, the corpus included."""
    values: dict[str, Any] = {}
    for name, value in dataclasses.asdict(config).items():
        if isinstance(value, dict):
            parts = {f"{name}.{part}": inner for part, inner in value.items()}
            values |= {part: _shown(parts[part]) for part in parts if part not in _ELSEWHERE}
        else:
            values[name] = _shown(value)
    return values


def config_from_form(values: dict[str, Any], corpus: str) -> TrainConfig:
    """The configuration for the form's values; what is missing takes its default.

    Raises: ConfigError naming the value that is unknown, of the wrong kind or out of range.
    """
    kinds = {field["name"]: field["kind"] for group in form_groups() for field in group["fields"]}
    if unknown := sorted(set(values) - set(kinds) - set(_ELSEWHERE)):
        raise ConfigError(f"the form has an unknown field {unknown[0][:60]!r}. Reload the page.")
    record: dict[str, Any] = {"corpus": corpus}
    for name, kind in kinds.items():
        if name not in values:
            continue
        value = _levels(name, values[name]) if kind == "levels" else values[name]
        group, _, part = name.rpartition(".")
        (record.setdefault(group, {}) if group else record)[part] = value
    return from_json(TrainConfig, record)


def _field(name: str, item: dataclasses.Field[Any], hint: Any) -> dict[str, Any]:
    short = name.rpartition(".")[2]
    table: Collection[str] = _TABLES.get(short, ())
    words = get_args(hint) if typing.get_origin(hint) is Literal else table
    field: dict[str, Any] = {
        "name": name,
        "label": _label(short),
        "kind": "choice" if words else _kind(hint),
        "help": _sentence(item.metadata.get("help") or GRID_HELP.get(short, "")),
    }
    if words:
        labels = _WORDS | {name: choice.label for name, choice in _TABLES.get(short, {}).items()}
        field["choices"] = {word: labels.get(word, _sentence(word)) for word in words}
    return field


def _kind(hint: Any) -> str:
    if hint is int:
        return "integer"
    if hint is bool:
        return "toggle"
    if hint is str:
        return "text"
    if typing.get_origin(hint) is tuple:
        return "levels"
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return "optional"
    return "number"


def _label(name: str) -> str:
    return _NAMES.get(name) or name.replace("_", " ").capitalize()


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _shown(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return ", ".join(f"{item:g}" for item in value)
    return value


def _levels(name: str, value: Any) -> list[float | int]:
    """Numbers from text such as "0.2, 0.4, 1"."""
    text = value if isinstance(value, str) else ""
    parts = [part.strip() for part in text.replace(";", ",").split(",") if part.strip()]
    try:
        return [int(part) if part.isdecimal() else float(part) for part in parts]
    except ValueError as error:
        raise ConfigError(
            f"{name} must be numbers with commas between them, got {str(value)[:60]!r}"
        ) from error
