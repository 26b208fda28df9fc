"""Load a model and a policy, generate, score: one call each."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from sol_core.actions import DEFAULT_GRID, Budget, grid_named
from sol_core.api.arguments import check_model, data_folder, policy_by_name
from sol_core.config import GenerationConfig
from sol_core.errors import ConfigError
from sol_core.events import Event, PrefillEvent, TokenEvent
from sol_core.fields import check_kind, check_names, check_text, kind_of, with_nearest
from sol_core.files.paths import DEFAULT_MODEL
from sol_core.generation.finished import Generation, Score
from sol_core.progress import Progress, shown_progress

if TYPE_CHECKING:
    from sol_core.budgets.prediction import Prediction
    from sol_core.decoding.batch_scheduling import Schedule
    from sol_core.generation.sampling import LogitsProcessor
    from sol_core.generation.schedules import PolicyFinder
    from sol_core.generation.sequence import RunOptions
    from sol_core.models.loading import LanguageModel
    from sol_core.policy.policy import Policy


@with_nearest
def load_model(
    name: str | Path = DEFAULT_MODEL,
    *,
    dtype: str = "auto",
    device: str = "auto",
    data_dir: str | Path | None = None,
    on_progress: Progress | None = None,
) -> LanguageModel:
    """Load a language model. The first call fetches and converts the default one.

    CPU kernels are compiled in parallel, once (a minute or two), and cached.

    Args:
        name: "smollm2-135m-instruct", a local folder, a GGUF file, or the Hub's "owner/name".
        dtype: auto, float32, bfloat16 or float16.
        device: auto, cpu, cuda, cuda:1 …
        data_dir: folder of downloads; None means ``SOL_DATA_DIR``, else the platform's own folder.
        on_progress: called with a message and the fraction done; None shows a bar on stderr.
    Raises: SolError with the remedy: ModelLoadError, UnsupportedModelError, DownloadError, or
        ConfigError for a dtype or device that is not available.
    """
    from sol_core.generation.warm_up import load_warm

    check_kind("name", name, (str, Path), "a folder, a file or a name")
    root = data_folder(data_dir)
    with shown_progress(on_progress) as report:
        return load_warm(str(name), data_dir=root, dtype=dtype, device=device, on_progress=report)


@with_nearest
def load_policy(
    name: str | Path,
    model: LanguageModel,
    *,
    grid: str | None = None,
    data_dir: str | Path | None = None,
) -> Policy:
    """Load a policy for a model.

    Args:
        name: "default" (the shipped one, for the default model), a stored policy's name, a policy
            folder, or the Hub's "owner/name".
        model: the model it was trained for, as ``load_model`` returns it.
        grid: the named grid it must choose from: "default" or "paper". Each has a shipped policy.
            None takes the policy's own grid.
        data_dir: folder of stored policies; None as for ``load_model``.
    Raises: ConfigError for an unknown grid; PolicyError for a policy that is missing, damaged or
        made for another model; DownloadError when the Hub does not provide it.
    """
    from sol_core.policy.files.locate import locate_policy
    from sol_core.policy.policy import load_policy as load

    check_kind("name", name, (str, Path), "a policy's name or folder")
    check_model(model)
    levels = None if grid is None else grid_named(grid)
    return load(locate_policy(name, data_folder(data_dir)), model, grid=levels)


class GenerateOptions(TypedDict, total=False):
    """Keyword options of ``generate``, ``generate_many`` and ``stream_generate``.

    Attributes:
        max_new_tokens: at most this many; default: the configuration's.
        config: everything else: sampling, chat template, stop strings, side rows. A schedule of its
            own excludes a policy and a budget; its grid must be the policy's, or unset.
        logits_processors: called in order before each draw, like transformers' ``LogitsProcessor``:
            ids [1, T] int64 (prompt and drawn tokens) and scores [1, V] fp32, both on the CPU →
            scores [1, V]. They run after the repetition penalty and before the temperature. Events
            still measure the model's own distribution.
        record: what to keep of every decode step. "pages": the pages of the KV cache that each
            layer read, see ``TokenEvent.page_reads.lists``. "hidden", "attention": tensors of every
            layer, see ``RecordedTokenEvent``. On a CPU they change no number.
    """

    max_new_tokens: int | None
    config: GenerationConfig | None
    logits_processors: Sequence[LogitsProcessor]
    record: Collection[str]


def generate(
    model: LanguageModel,
    prompt: str,
    policy: Policy | Schedule | None = None,
    budget: Budget | None = None,
    **options: Unpack[GenerateOptions],
) -> Generation:
    """Generate text, token by token under a schedule (arXiv:2605.10875).

    Args:
        model: as ``load_model`` or ``from_transformers`` returns it.
        prompt: a text.
        policy: decides what each token may spend; it needs a budget. Or a function of your own from
            a row's ``StepObservation`` to an ``Action``, called once per step, or a class of them.
            A parameter ``budget`` gets the budget.
        budget: requested mean spend. Without a policy every token gets it ("static"); without
            either, decoding is dense.
        options: see ``GenerateOptions``.
    Raises: SolError for a request that cannot run; TypeError for an unknown option.
    """
    from sol_core.generation.schedules import with_grid

    config, _, find = _request(policy, budget, **options)
    events = list(stream_generate(model, prompt, policy, budget, **options))
    return _gathered(events, prompt, model.name, with_grid(config, find))


def generate_many(
    model: LanguageModel,
    prompts: Sequence[str],
    policy: Policy | Schedule | None = None,
    budget: Budget | None = None,
    **options: Unpack[GenerateOptions],
) -> list[Generation]:
    """Generate from several prompts of any lengths, all drawn with the same seed.

    On a CPU one after another, each with the tokens that it gets alone, bit for bit; on a GPU 32 at
    a time, whose sums differ by 1e-6 of a logit in fp32.

    Args:
        model, policy, budget, options: as for ``generate``; each prompt has an instance of a class,
            or a shallow copy of a function of your own.
        prompts: a list of texts.
    Returns: a generation for each, in the same order.
    Raises: SolError naming the prompt that cannot run; TypeError for an unknown option.
    """
    check_model(model)
    check_kind("prompts", prompts, (list, tuple), "a list of texts")
    for number, text in enumerate(prompts):
        check_kind(f"prompts[{number}]", text, str, "text")
    from sol_core.generation import engine
    from sol_core.generation.schedules import with_grid

    config, run_options, find = _request(policy, budget, **options)
    events: list[list[Event]] = [[] for _ in prompts]
    for number, event in engine.generate_many(
        model, prompts, config, policies=find, options=run_options
    ):
        events[number].append(event)
    used = with_grid(config, find)
    pairs = zip(events, prompts, strict=True)
    return [_gathered(of_text, text, model.name, used) for of_text, text in pairs]


def stream_generate(
    model: LanguageModel,
    prompt: str,
    policy: Policy | Schedule | None = None,
    budget: Budget | None = None,
    **options: Unpack[GenerateOptions],
) -> Iterator[Event]:
    """Generate token by token.

    Args: as for ``generate``.
    Yields: PrefillProgress after each piece of a long prompt, one PrefillEvent, a TokenEvent per
        token, one FinishEvent.
    Raises: SolError for a request that cannot run, before any event; TypeError for an unknown
        option.
    """
    check_model(model)
    check_kind("prompt", prompt, str, "text (generate_many takes a list of them)")
    from sol_core.generation import engine

    config, run_options, find = _request(policy, budget, **options)
    return engine.generate(model, prompt, config, policies=find, options=run_options)


@with_nearest
def score(
    model: LanguageModel,
    text: str,
    policy: Policy | Schedule | None = None,
    budget: Budget | None = None,
    *,
    context: str = "",
    config: GenerationConfig | None = None,
) -> Score:
    """Score a text, token by token, as ``generate`` would spend on it (teacher forcing).

    Args:
        model: as ``load_model`` returns it.
        text: at least two tokens; one is enough with a context.
        policy, budget, config: as for ``generate``.
        context: text before it, read densely and not scored. Without one the first token is not
            scored, because nothing predicts it.
    Returns: NLL in nats of every scored token, the action of the step that predicted it, its cost.
    Raises: SolError for a text that cannot be scored.
    """
    from sol_core.generation.schedules import with_schedule
    from sol_core.generation.scoring import encode_text, score_text

    check_model(model)
    check_kind("text", text, str, "text")
    check_kind("context", context, str, "text")
    chosen = with_schedule(config, policy, budget)
    ids, first = encode_text(model, context, text)
    find = cache(partial(policy_by_name, policy=policy, budget=budget))
    return score_text(model, ids, first, chosen, find)


def predict(model: LanguageModel, budget: Budget, context: int) -> Prediction:
    """Estimate what a budget does after so many tokens: damage in words, and speed here.

    Damage is the static schedule's, from tables that were measured; speed is that of this machine,
    from a few steps that were timed when the model was first loaded.

    Args:
        model: as ``load_model`` returns it.
        budget: on the default grid.
        context: tokens that a step attends over, its own included; at least 1.
    Raises: ConfigError for a share that cannot be reached after so few tokens.
    """
    from sol_core.budgets.mixes import mix_table
    from sol_core.budgets.prediction import predict_step

    check_model(model)
    check_kind("budget", budget, Budget, "a Budget")
    check_kind("context", context, int, "a number of tokens")
    grid = grid_named(DEFAULT_GRID)
    grid.check_budget(budget)
    at = min(max(context, 1), model.context_length)
    return predict_step(mix_table(model, grid), model.lm.step_times, budget, at)


def count_tokens(model: LanguageModel, text: str) -> int:
    """Number of a text's tokens, special ones at its start included, as ``score`` reads it.

    Args:
        model: as ``load_model`` returns it.
        text: of any length.
    """
    check_model(model)
    check_text("the text", text)
    return len(model.encode(text))


def _request(
    policy: Policy | Schedule | None, budget: Budget | None, **options: Unpack[GenerateOptions]
) -> tuple[GenerationConfig, RunOptions, PolicyFinder]:
    """The configuration, what it cannot hold, and what finds policies by name."""
    from sol_core.generation.schedules import with_schedule
    from sol_core.generation.sequence import RECORDS, RunOptions

    check_names(options, GenerateOptions.__annotations__, "a generation has no option")
    logits_processors = options.get("logits_processors", ())
    max_new_tokens = options.get("max_new_tokens")
    record = options.get("record", ())
    check_kind("record", record, (set, frozenset, list, tuple), f"some of {', '.join(RECORDS)}")
    check_names(record, RECORDS, "a generation has no record")
    wanted = "a list of functions of ids [1, T] and scores [1, V]"
    check_kind("logits_processors", logits_processors, (list, tuple), wanted)
    for processor in logits_processors:
        if not callable(processor):
            raise ConfigError(f"logits_processors must be {wanted}, got {kind_of(processor)}")
    chosen = with_schedule(options.get("config"), policy, budget)
    if max_new_tokens is not None:
        chosen = dataclasses.replace(chosen, max_new_tokens=max_new_tokens)
    find = cache(partial(policy_by_name, policy=policy, budget=budget))
    return chosen, RunOptions(tuple(logits_processors), frozenset(record)), find


def _gathered(events: list[Any], prompt: str, model: str, config: GenerationConfig) -> Generation:
    """A generation from its PrefillEvent, TokenEvents and FinishEvent."""
    finish = events[-1]
    tokens = tuple(event for event in events if isinstance(event, TokenEvent))
    prefill = next(event for event in events if isinstance(event, PrefillEvent))
    return Generation(finish.text, tokens, finish, prompt, model, config, prefill)
