"""``launch.py generate "PROMPT"``: one generation, as coloured text or as one JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace

from app.cli.options import (
    add_budget,
    add_integer_mlp,
    add_model,
    add_quant_site,
    check_integer_mlp,
    load_model,
    open_data_dir,
)
from app.cli.schedule_option import SCHEDULE_HELP, schedule_from_option
from app.cli.terminal import add_colour_axis, colour_depth, paint, share
from app.host.console import Console, write_out
from app.policies.library import PolicyLibrary
from sol_core.actions import ActionGrid, Budget
from sol_core.config import (
    GenerationConfig,
    SamplingConfig,
    ScheduleConfig,
    SideRowConfig,
)
from sol_core.errors import ConfigError
from sol_core.events import PrefillEvent, TokenEvent

HELP = "generate text under a compute schedule"
MAX_PROMPT_BYTES = 16_000_000  # far beyond any context window, small enough to tokenise
MAX_SEED = 2**63 - 1
SHADOW = SideRowConfig("dense", ScheduleConfig("dense"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The prompt, and one option for every field of ``GenerationConfig`` that a user sets."""
    parser.add_argument(
        "prompt", metavar="PROMPT", help='text to continue; "-" reads it from stdin'
    )
    _add_schedule(parser)
    _add_sampling(parser)
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON and nothing else")
    add_colour_axis(parser)
    parser.set_defaults(check=_check)


def run(args: argparse.Namespace) -> int:
    """Generate and show; errors of the engine pass through."""
    console = Console()
    model, load_ms = load_model(args, console, integer_mlp=args.integer_mlp)
    from app.cli.reports.generation import Outcome, json_report, legend, summary
    from sol_core.generation.engine import generate

    depth = colour_depth(sys.stdout)
    tokens: list[TokenEvent] = []
    library = PolicyLibrary(open_data_dir(args))
    # Two tokens that nobody sees: kernels are compiled, or read, before a speed is measured.
    began = time.perf_counter()
    console.progress("preparing kernels", 0.0)
    for _ in generate(
        model, "The", replace(args.config, max_new_tokens=2), policies=library.resolve
    ):
        pass
    console.clear()
    load_ms += 1000 * (time.perf_counter() - began)
    for event in generate(model, args.prompt, args.config, policies=library.resolve):
        if isinstance(event, PrefillEvent):
            prefill = event
        elif isinstance(event, TokenEvent):
            tokens.append(event)
            if not args.json:
                value = share(args.color_by, event.action, event.surprisal)
                write_out(paint(event.text, value, depth))
        else:
            finish = event
    outcome = Outcome(
        args.prompt,
        args.config,
        model.name,
        model.dtype_name,
        args.integer_mlp,
        load_ms,
        prefill,
        tokens,
        finish,
    )
    if args.json:
        write_out(json.dumps(json_report(outcome), allow_nan=False) + "\n")
    else:
        write_out("\n\n" + summary(outcome))
        if depth != "none":
            write_out(legend(args.color_by, depth))
    return 0


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    config = GenerationConfig()
    group = parser.add_argument_group("compute schedule")
    group.add_argument(
        "--schedule",
        metavar="KIND",
        default=config.schedule.kind,
        help=f"{SCHEDULE_HELP} (default: %(default)s)",
    )
    add_budget(group, Budget())
    add_quant_site(group)
    add_integer_mlp(group)
    group.add_argument(
        "--episode-steps",
        type=int,
        default=config.episode_steps,
        metavar="N",
        help="steps per episode; schedules start over there (default: %(default)s)",
    )
    group.add_argument(
        "--refresh", action="store_true", help="replay each finished episode densely into the cache"
    )
    group.add_argument(
        "--shadow",
        action="store_true",
        help="decode a dense row beside it and report the KL divergence to it",
    )


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    config, sampling = GenerationConfig(), SamplingConfig()
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--max-new-tokens",
        type=int,
        default=config.max_new_tokens,
        metavar="N",
        help="stop after this many tokens (default: %(default)s)",
    )
    group.add_argument(
        "--temperature",
        type=float,
        default=sampling.temperature,
        help="0 takes the most probable token (default: %(default)s)",
    )
    group.add_argument(
        "--top-k",
        type=int,
        default=sampling.top_k,
        help="draw from the K most probable tokens, 0 from all (default: %(default)s)",
    )
    group.add_argument(
        "--top-p",
        type=float,
        default=sampling.top_p,
        help="draw from the smallest set with this probability (default: %(default)s)",
    )
    group.add_argument(
        "--repetition-penalty",
        type=float,
        default=sampling.repetition_penalty,
        metavar="FACTOR",
        help="above 1 discourages repeating (default: %(default)s)",
    )
    group.add_argument(
        "--seed",
        type=_seed,
        default=sampling.seed,
        help="the same seed gives the same tokens (default: %(default)s)",
    )
    group.add_argument("--chat", action="store_true", help="wrap the prompt in the chat template")
    group.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="stop when the text contains this; may be given several times",
    )
    group.add_argument("--ignore-eos", action="store_true", help="go on past the end-of-text token")


def _check(args: argparse.Namespace) -> None:
    """Build the configuration and read the prompt, before anything heavy is loaded."""
    check_integer_mlp(args)
    args.config = _config(args)
    if args.prompt == "-":
        args.prompt = _read_prompt(sys.stdin.buffer.read(MAX_PROMPT_BYTES + 1))
    try:
        args.prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError(
            "the prompt is not valid UTF-8: set the terminal to UTF-8, or give a file to stdin"
        ) from error


def _config(args: argparse.Namespace) -> GenerationConfig:
    budget = Budget(args.keep, args.channels, args.bits)
    return GenerationConfig(
        schedule=schedule_from_option(args.schedule, budget, args.seed),
        side_rows=(SHADOW,) if args.shadow else (),
        sampling=SamplingConfig(
            args.temperature, args.top_k, args.top_p, args.repetition_penalty, args.seed
        ),
        grid=ActionGrid(quant_site=args.quant_site),
        max_new_tokens=args.max_new_tokens,
        chat=args.chat,
        stop_strings=tuple(args.stop),
        ignore_end_of_text=args.ignore_eos,
        episode_steps=args.episode_steps,
        refresh=args.refresh,
    )


def _read_prompt(content: bytes) -> str:
    """Text from stdin; the one newline that ``echo`` adds is left out."""
    if len(content) > MAX_PROMPT_BYTES:
        raise ConfigError(f"the prompt on stdin is larger than {MAX_PROMPT_BYTES / 1e6:.0f} MB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the prompt on stdin is not UTF-8 text (byte {error.start}): convert it first"
        ) from error
    return text.removesuffix("\n").removesuffix("\r")


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed <= MAX_SEED:
        raise argparse.ArgumentTypeError(f"must be 0 to {MAX_SEED}, got {text}")
    return seed
