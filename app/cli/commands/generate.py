"""``launch.py generate "PROMPT"``: one generation, or a file's, as coloured text or as one JSON."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli import options as cli
from app.cli.generation_report import Outcome, json_report, summary, until_stop
from app.cli.input_files import read_text
from app.cli.terminal import colour_depth, legend, paint
from app.host.console import Console, write_out
from app.policies.library import usual_schedule
from sol_core.actions import ActionGrid, Budget
from sol_core.config import GenerationConfig, SamplingConfig, ScheduleConfig, SideRowConfig
from sol_core.errors import ConfigError
from sol_core.events import Event, FinishEvent, PrefillEvent, PrefillProgress, TokenEvent
from sol_core.files.paths import DEFAULT_MODEL

if TYPE_CHECKING:
    from sol_core.generation.schedules import PolicyFinder
    from sol_core.generation.sequence import RunOptions
    from sol_core.models.loading import LanguageModel

HELP = "generate text under a compute schedule"
SHADOW = SideRowConfig("dense", ScheduleConfig("dense"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "prompt", metavar="PROMPT", nargs="?", help='text to continue; "-" reads it from stdin'
    )
    files = {
        "prompt-file FILE": "instead: a UTF-8 text file that is the prompt, without its last line "
        'break; "-" reads stdin',
        "prompts FILE": "instead: a text file with a prompt on every line",
    }
    cli.add_texts(parser, files)
    _add_schedule(parser)
    _add_sampling(parser)
    cli.add_model(parser)
    cli.add_flag(parser, "page-reads", "with --json: the pages that every step read, by layer")
    cli.add_left_out(parser, "pages of the prompt that no step may read")
    cli.add_json(parser)


def run(args: argparse.Namespace) -> int:
    console, find = Console(), _finder(args)
    args.config = _config(args, cli.grid_from(args, [args.asked], find))
    model, load_ms = cli.load_model(args, console, [args.asked.budget])
    from sol_core.generation.engine import generate
    from sol_core.generation.sequence import RunOptions

    # Two tokens that nobody sees: kernels are read before a speed is measured.
    began = time.perf_counter()
    console.progress("preparing kernels", 0.0)
    options = RunOptions(record=frozenset({"pages"} if args.page_reads else ()))
    for _ in generate(model, "The", _unseen(args.config), policies=find):
        pass
    console.clear()
    load_ms += 1000 * (time.perf_counter() - began)
    depth = colour_depth(sys.stdout)

    def paints(token: TokenEvent) -> str:
        return paint(token.text, token.action.net_keep_rate, depth)

    runs = []
    if args.prompts is None:
        _say_prediction(model, args, console)
        events = generate(model, args.prompt, args.config, policies=find, options=options)
        runs.append((args.prompt, _shown(_watched(events, console), args, paints)))
    else:
        runs += zip(args.prompts, _together(model, args, find, options, console), strict=True)
    of_run = args.config, model.name, model.dtype_name, load_ms
    outcomes = [Outcome(prompt, *of_run, *_sorted(events)) for prompt, events in runs]
    if args.json:
        reports = [json_report(outcome) for outcome in outcomes]
        if args.page_reads:
            for report, outcome in zip(reports, outcomes, strict=True):
                reads = (token.page_reads for token in outcome.tokens)
                layers = model.spec.num_layers
                lists = (None if step is None else step.lists(layers) for step in reads)
                report["page_reads"] = list(lists)
        cli.print_json(reports[0] if args.prompts is None else reports)
        return 0
    for outcome in outcomes:
        if args.prompts is not None:
            tokens = until_stop([*outcome.tokens, outcome.finish], args.config.stop_strings)
            write_out(f"{outcome.prompt}\n{''.join(map(paints, tokens))}")
        write_out("\n\n" + summary(outcome) + "\n" * (args.prompts is not None))
    if depth != "none":
        write_out(legend(depth))
    return 0


def _say_prediction(model: LanguageModel, args: argparse.Namespace, console: Console) -> None:
    """Say before a run what its share of the bytes does, where that is known."""
    from sol_core.budgets.mixes import mix_table
    from sol_core.budgets.prediction import predict_step
    from sol_core.generation.engine import encode_prompt

    config, budget = args.config, args.config.schedule.budget
    if args.json or budget.bytes_share is None:
        return
    prompt = encode_prompt(model, args.prompt, chat=config.chat)
    context = min(len(prompt) + config.max_new_tokens // 2, model.context_length)
    mixes = mix_table(model, config.grid_in_use)
    if budget.bytes_share >= mixes.lowest_share(context):
        predicted = predict_step(mixes, model.lm.step_times, budget, context)
        console.say(f"expected  {predicted.words}")


def _finder(args: argparse.Namespace) -> Callable[[str], Any]:
    """Find with ``cli.schedule_finder``; an own schedule that is given no budget keeps its own."""
    resolve = cli.schedule_finder(args)

    def find(name: str) -> Any:
        source = resolve(name)
        if isinstance(source, Path):
            return source
        from sol_core.generation.schedules import mark_without_budget, schedule_config

        budget = None if args.asked.budget == Budget() else args.asked.budget
        schedule_config(source, budget)  # refuses a budget that the schedule does not take
        return mark_without_budget(source, budget)

    return find


def _unseen(config: GenerationConfig) -> GenerationConfig:
    """The same kernels after one token, where few shares of the bytes can be reached."""
    schedule = config.schedule
    if schedule.budget.bytes_share is not None:
        budget = Budget(0.5, 0.75, schedule.budget.bit_width)
        schedule = replace(schedule, budget=budget)
    return replace(config, schedule=schedule, max_new_tokens=2, given=(), left_out=())


def _watched(events: Iterator[Event], console: Console) -> Iterator[Event]:
    """Yield the events but for those of the reading, which show as progress."""
    for event in events:
        if isinstance(event, PrefillProgress):
            console.status(f"Reading the prompt: {event.words}")
        else:
            console.clear()
            yield event


def _shown(
    events: Iterator[Event], args: argparse.Namespace, paints: Callable[[TokenEvent], str]
) -> list[Event]:
    """The events of one prompt, its text written as it comes."""
    if args.json:
        return list(events)
    events, copy = itertools.tee(events)
    for token in until_stop(copy, args.config.stop_strings):
        write_out(paints(token))
    return list(events)


def _together(
    model: LanguageModel,
    args: argparse.Namespace,
    find: PolicyFinder,
    options: RunOptions,
    console: Console,
) -> list[list[Event]]:
    from sol_core.generation.engine import generate_many

    events: list[list[Event]] = [[] for _ in args.prompts]
    ended = 0
    many = generate_many(model, args.prompts, args.config, policies=find, options=options)
    for number, event in many:
        if isinstance(event, PrefillProgress):
            console.status(f"Reading prompt {number + 1} of {len(events)}: {event.words}")
        else:
            events[number].append(event)
        if isinstance(event, FinishEvent):
            ended += 1
            console.progress(f"{ended} of {len(events)} prompts", ended / len(events))
    console.clear()
    return events


def _sorted(events: Sequence[Event]) -> tuple[PrefillEvent, list[TokenEvent], FinishEvent]:
    first, *_, last = events
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    assert isinstance(first, PrefillEvent)
    assert isinstance(last, FinishEvent)
    return first, tokens, last


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    config = GenerationConfig()
    group = parser.add_argument_group("compute schedule")
    usual = f"{usual_schedule(DEFAULT_MODEL, by_share=True)} for shares of its model's bytes"
    text = f"{cli.SCHEDULE_HELP} (default: {usual}, else static)"
    cli.add_value(group, "schedule KIND", "", text, help=text)
    cli.add_budget(group, Budget())
    cli.add_mechanisms(group)
    text = "steps per episode; schedules start over there"
    cli.add_value(group, "episode-steps N", config.episode_steps, text)
    cli.add_flag(group, "shadow", "decode a dense row beside it and report the KL divergence to it")


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    sampling = SamplingConfig()
    group = parser.add_argument_group("sampling")
    penalty, count = sampling.repetition_penalty, GenerationConfig().max_new_tokens
    for name, default, text in (
        ("max-new-tokens N", count, "stop after this many tokens"),
        ("temperature", sampling.temperature, "0 takes the most probable token"),
        ("top-k", sampling.top_k, "draw from the K most probable tokens, 0 from all"),
        ("top-p", sampling.top_p, "draw from the smallest set with this probability"),
        ("repetition-penalty FACTOR", penalty, "above 1 discourages repeating"),
    ):
        cli.add_value(group, name, default, text)
    cli.add_value(group, "seed", sampling.seed, "the same seed gives the same tokens")
    cli.add_flag(group, "chat", "wrap the prompt in the chat template")
    cli.add_several(group, "stop TEXT", "stop when the text contains this")
    cli.add_flag(group, "ignore-eos", "go on past the end-of-text token")


def check(args: argparse.Namespace) -> None:
    """Read the schedule and the prompt, before anything heavy is loaded."""
    budget = cli.asked_budget(args)
    is_plain = args.grid is None and args.quant_site is None
    by_share = budget.bytes_share is not None and is_plain
    kind = args.schedule or usual_schedule(cli.model_name(args), by_share=by_share)
    args.asked = cli.schedule_from_option(kind, budget, args.seed)
    given = (args.prompt, args.prompt_file, args.prompts)
    if sum(source is not None for source in given) != 1:
        raise ConfigError("give a PROMPT, --prompt-file FILE or --prompts FILE")
    if args.prompts is not None:
        lines = read_text(args.prompts, "prompt").splitlines()
        args.prompts = [line for line in lines if line.strip()]
        return
    source = "-" if args.prompt == "-" else args.prompt_file
    if source is not None:
        text = read_text(source, "prompt")
        args.prompt = text if source == "-" else text.removesuffix("\n").removesuffix("\r")
    try:
        args.prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError(
            "the prompt is not valid UTF-8: set the terminal to UTF-8, or give a file to stdin"
        ) from error


def _config(args: argparse.Namespace, grid: ActionGrid) -> GenerationConfig:
    return GenerationConfig(
        schedule=args.asked,
        side_rows=(SHADOW,) if args.shadow else (),
        sampling=SamplingConfig(
            args.temperature, args.top_k, args.top_p, args.repetition_penalty, args.seed
        ),
        grid=grid,
        max_new_tokens=args.max_new_tokens,
        chat=args.chat,
        stop_strings=tuple(args.stop),
        ignore_end_of_text=args.ignore_eos,
        episode_steps=args.episode_steps,
        left_out=args.without,
    )
