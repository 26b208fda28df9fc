"""``launch.py evaluate POLICY``: a policy against its baselines at matched spend."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli import input_files, job_options
from app.cli import options as cli
from app.cli.terminal import table
from app.formats import json_safe
from app.host.console import Console, write_file
from app.host.errors import InputFileError, system_errors
from app.results.figures import budget_label, evaluation_verdict
from app.results.files import csv_text, text_losses_csv
from sol_core.actions import SHORT_AXES, ActionGrid
from sol_core.config import POLICY_PREFIX
from sol_core.corpus.documents import BUILTIN
from sol_core.errors import ConfigError
from sol_core.evaluation.config import EvaluationConfig, parse_budgets, parse_names
from sol_core.fields import from_json
from sol_core.progress import WorkFinished
from sol_core.reporting.verdict import MEASURES

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel

OPTIONS = ("policy", "grid", *input_files.MODEL_OPTIONS)
EXTENT = {
    "texts": "texts (default: 128)",
    "steps": "scored steps of a rollout (default: 16)",
    "windows": "rollouts of a text, one after another, on one prefill (default: 1)",
    "seed": "decides texts and random schedules (default: 0)",
}
_SETTINGS = ("corpus", *EXTENT)
HELP = "measure a policy against static, random and other schedules at the same spend"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    job_options.add_policy(parser, optional=True)
    texts = {
        "corpus FILE": "text that is scored: a file, a folder, a Hub data set "
        "owner/name:config:part:column (owner/name is enough), or builtin (the default)",
        "budgets LIST": f'mean spends, "{",".join(SHORT_AXES)};…" (default: nine of them), or '
        "shares of the full model's bytes, as in 50%%,65%%",
        "baselines LIST": "of static, random:N, "
        + ", ".join(f"{name} ({rule})" for name, rule in cli.RULES.items())
        + " (default: static,random:10)",
        "context LIST": "dense tokens before the first step (default: 256); of several, as in "
        "256,2048, each is an evaluation of its own",
    }
    files = {
        "config FILE": "a TOML file of settings, as --out writes them; other options come on top",
        "out DIR": "also write result.json, result.csv, per_text.csv (losses of every text) and "
        "evaluation.toml (for --config) there",
    }
    cli.add_texts(parser, texts)
    cli.add_texts(parser, files, type=Path)
    text = (
        "also measure this at POLICY's spend: policy:NAME, or MODULE:NAME, a function of your own"
    )
    cli.add_several(parser, "schedule NAME", text, dest="others")
    cli.add_texts(parser, EXTENT, type=int)
    cli.add_model(parser)
    cli.add_json(parser)


def run(args: argparse.Namespace) -> int:
    config = _config(args)
    contexts = _contexts(args.context) or (config.context,)
    configs = [replace(config, context=context) for context in contexts]
    grid = job_options.chosen_grid(args)
    find = cli.schedule_finder(args)
    others = {
        name: find(name) for name in (text.removeprefix(POLICY_PREFIX) for text in args.others)
    }
    model, policy, source, root = job_options.policy_on_model(args, config.budgets)
    from sol_core.evaluation.runner import evaluate

    if len(configs) > 1 and config.by_share:
        sources = [source, *others.values()]
        configs = [_within_reach(asked, model, sources, grid) for asked in configs]
    methods, kept = {policy: source, **others}, root / job_options.PARTIAL_FOLDER
    begun = []  # all are checked before the first runs
    for measured in configs:
        folder = kept / f"evaluate-{measured.context}"
        begun.append(evaluate(model, methods, measured, data_dir=root, grid=grid, partial=folder))
    made = [job_options.shown_result(args, events) for events in begun]
    results = [finished.result for finished in made]
    if args.out is not None:
        for measured, finished in zip(configs, made, strict=True):
            folder = args.out if len(configs) == 1 else args.out / f"context-{measured.context}"
            _write(args, folder, measured, finished)
    text = "\n".join(as_table(result) for result in results)
    cli.print_result(args, results[0] if len(results) == 1 else results, text)
    return 0


def check(args: argparse.Namespace) -> None:
    options, args.fields = input_files.read_experiment(args.config, OPTIONS)
    named = args.fields.pop("schedules", [])
    args.others = args.others or named
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise InputFileError(f"{args.config}: schedules must be a list of names, got {named!r}")
    input_files.take_options(args, options, BUILTIN)
    if args.policy is None:
        raise ConfigError("name a POLICY, or give a --config that has one")
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise InputFileError(f"--out {args.out} is a file: name a folder")


def _config(args: argparse.Namespace) -> EvaluationConfig:
    given = {name: value for name in _SETTINGS if (value := getattr(args, name)) is not None}
    if args.budgets is not None:
        given["budgets"] = parse_budgets(args.budgets)
    if args.baselines is not None:
        given["baselines"] = parse_names(args.baselines) or ("static",)
    config = from_json(
        EvaluationConfig, input_files.merged(EvaluationConfig().to_dict(), args.fields)
    )
    return replace(config, **given)


def _contexts(text: str | None) -> tuple[int, ...]:
    """Read "256,2048"; empty where nothing is given."""
    parts = [] if text is None else [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ConfigError(f"--context is a number of tokens, or several as 256,2048; got {text!r}")
    contexts = tuple(map(int, parts))
    if len(set(contexts)) != len(contexts):
        raise ConfigError(f"--context has a length twice: {text}")
    return contexts


def _within_reach(
    config: EvaluationConfig, model: LanguageModel, sources: Sequence[Any], grid: ActionGrid | None
) -> EvaluationConfig:
    """Without the shares that no mix reaches after this context, unless that is all of them."""
    from sol_core.budgets.mixes import mix_table
    from sol_core.policy.files.locate import resolved_grid

    grid = resolved_grid(grid, sources)
    lowest = mix_table(model, grid).lowest_share(config.context + 1)
    kept = tuple(budget for budget in config.budgets if (budget.bytes_share or 1) >= lowest)
    if not kept or kept == config.budgets:
        return config
    left_out = ", ".join(budget.words for budget in config.budgets if budget not in kept)
    Console().say(
        f"note: after {config.context:,} tokens at least {100 * lowest:.0f} % of the bytes are "
        f"read; left out there: {left_out}"
    )
    return replace(config, budgets=kept)


def _write(
    args: argparse.Namespace, folder: Path, config: EvaluationConfig, finished: WorkFinished
) -> None:
    result = finished.result
    options = {name: getattr(args, name) for name in OPTIONS} | {"schedules": args.others}
    remarks = (
        "An evaluation; to do it again: evaluate --config THIS_FILE",
        f"model {result.get('model')}, fingerprint {result.get('fingerprint')}",
        f"corpus {result.get('corpus')}, fingerprint {result.get('corpus_fingerprint')}",
        input_files.versions(),
    )
    files = {
        "result.json": json.dumps(result, allow_nan=False, indent=2),
        "result.csv": csv_text(result),
        "per_text.csv": text_losses_csv(finished.per_text),
        "evaluation.toml": input_files.experiment_text(
            options | json_safe(config.to_dict()), remarks
        ),
    }
    with system_errors(f"cannot write to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_file(folder / name, text.encode("utf-8"))


def as_table(result: dict[str, Any]) -> str:
    """Every budget with its methods, spend beside each number."""
    lines = [
        f"{result.get('policy', 'policy')} on {result.get('corpus', '?')}: "
        f"{result.get('scored_tokens', '?')} tokens after {result.get('context', '?')}, "
        "nats per token"
    ]
    first = result["policy"]
    if (verdict := evaluation_verdict(result)) is not None:
        lines.append(str(verdict))
    for budget in result["budgets"]:
        asked = budget["requested"]
        by_share = "share" in asked
        read = ("bytes", "MB") if by_share else ()
        better = (f"NLL of {first} (95 %)", "its KL (95 %)")
        head = ("  method", "NLL", "KL", *read, *SHORT_AXES, *better)
        rows = [_cells(budget, method, row) for method, row in _methods(budget, first)]
        sides = f"<{'>' * (len(head) - 3)}<<"
        lines += ["", f"budget  {budget_label(asked)}", *table(head, rows, sides)]
        if by_share:
            off = budget["adherence"]["gap"]["share"]
            lines.append(f"  {first} read {100 * off:+.2f} points of the bytes asked for")
    measured_on = result.get("mixes_measured_on")
    if measured_on not in (None, result.get("model")):
        lines.append(f"shares were spent by the damage measured on {measured_on}")
    return "".join(f"{line}\n" for line in lines)


def _methods(budget: dict[str, Any], first: str) -> list[tuple[str, dict[str, Any]]]:
    methods: dict[str, dict[str, Any]] = budget["methods"]
    order = [name for name in (first, "policy", "dense", "static") if name in methods]
    return [(name, methods[name]) for name in [*order, *(m for m in methods if m not in order)]]


def _cells(budget: dict[str, Any], method: str, row: dict[str, Any]) -> tuple[str, ...]:
    spend = row["spend"]
    read: tuple[str, ...] = ()
    if "share" in budget["requested"]:
        read = (f"{100 * row['bytes_share']:.1f} %", f"{row['bytes_per_token'] / 1e6:.1f}")
    axes = (f"{spend[name]:.3f}" for name in SHORT_AXES)
    paired = budget.get("paired", {}).get(method)
    better = ("", "") if paired is None else (_better(paired, "nll"), _better(paired, "kl"))
    losses = _number(row.get("nll")), _number(row.get("kl"))
    return f"  {method}", *losses, *read, *axes, *better


def _better(paired: dict[str, Any], loss: str) -> str:
    gain, low, high = (paired[f"{loss}_{part}"] for part in ("gain", "low", "high"))
    if gain is None:
        return "not compared: another spend"
    side = MEASURES[loss].side
    if paired[f"{loss}_verdict"] not in ("better", "worse"):
        return f"{paired[f'{loss}_verdict']} ({abs(gain):.4f} {side(gain)})"
    near, far = sorted((abs(low), abs(high)))
    return f"{abs(gain):.4f} {side(gain)} ({near:.4f} to {far:.4f})"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4f}"
