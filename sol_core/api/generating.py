"""Load a model and a policy, generate and score, each in one call."""

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

    CPU kernels are compiled once (a minute or two) and cached.

    Args:
        name: "smollm2-135m-instruct", a local folder, a GGUF file, or the Hub's "owner/name".
        dtype: auto, float32, bfloat16 or float16.
        device: auto, cpu, cuda, cuda:1 …
        data_dir: folder for downloads; None means ``SOL_DATA_DIR``, else the platform's own folder.
        on_progress: called with a message and the fraction done; None shows a bar on stderr.
    Raises: SolError with a remedy: ModelLoadError, UnsupportedModelError, DownloadError, or
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
        name: "default" (the default model's, shipped), a stored policy's name, a policy folder, or
            the Hub's "owner/name".
        model: the model that it was trained for.
        grid: the named grid that it chooses from, "default" or "paper" (each has a shipped policy);
            None accepts the policy's own grid.
        data_dir: folder of stored policies; None as for ``load_model``.
    Raises: ConfigError for an unknown grid; PolicyError for a policy that is missing, damaged or
        made for another model; DownloadError if the Hub does not provide it.
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
        max_new_tokens: maximum number of new tokens; by default the configuration's.
        config: everything else: sampling, chat template, stop strings, side rows. If it has a
            schedule, policy and budget must be omitted; its grid must be the policy's, or unset.
        logits_processors: called in order before each draw, like transformers' ``LogitsProcessor``:
            ids [1, T] int64 (prompt and drawn tokens) and scores [1, V] fp32, both on the CPU →
            scores [1, V]. They run after the repetition penalty and before the temperature. Events
            still measure the model's own distribution.
        record: what to keep of each decode step. "pages": the pages of the KV cache that each layer
            read, see ``TokenEvent.page_reads.lists``. "hidden", "attention": tensors of each layer,
            see ``RecordedTokenEvent``. On a CPU, recording changes no number.
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
        model: as returned by ``load_model`` or ``from_transformers``.
        prompt: the text to continue.
        policy: decides what each token may spend, within the budget. Alternatively, your own
            function from a ``StepObservation`` to an ``Action``, called once per step, or a class
            whose instances are such functions. A parameter ``budget`` receives the budget.
        budget: requested mean spend. Without a policy, every token gets it ("static"); without
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
    """Generate from several prompts of any length, all sampled with the same seed.

    On a CPU, prompts run one after another, and each gets the tokens that it gets alone, bit for
    bit; on a GPU, 32 run at a time, and their sums differ by 1e-6 of a logit in fp32.

    Args:
        model, policy, budget, options: as for ``generate``; each prompt gets its own instance of a
            class, or a shallow copy of your function.
        prompts: the texts to continue.
    Returns: one generation per prompt, in the same order.
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
    Yields: PrefillProgress after each chunk of a long prompt, one PrefillEvent, one TokenEvent per
        token, one FinishEvent.
    Raises: before any event, SolError for a request that cannot run, TypeError for an unknown
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
    """Score a text token by token under a schedule (teacher forcing).

    Args:
        model: as returned by ``load_model``.
        text: at least two tokens, or one with a context.
        policy, budget, config: as for ``generate``.
        context: preceding text, read densely and not scored. Without it, the first token is not
            scored, because nothing predicts it.
    Returns: NLL in nats of each scored token, with the action and cost of its step.
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
    """Predict a budget's damage, in words, and its speed on this machine.

    Damage is the static schedule's, from measured tables. Speed comes from a few steps that were
    timed when the model was first loaded.

    Args:
        model: as returned by ``load_model``.
        budget: a budget on the default grid.
        context: tokens that the step attends over, its own included; at least 1.
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
    """Count a text's tokens as ``score`` reads it, special tokens at its start included.

    Args:
        model: as returned by ``load_model``.
        text: a text of any length.
    """
    check_model(model)
    check_text("the text", text)
    return len(model.encode(text))


def _request(
    policy: Policy | Schedule | None, budget: Budget | None, **options: Unpack[GenerateOptions]
) -> tuple[GenerationConfig, RunOptions, PolicyFinder]:
    """Return the configuration, the options that it cannot hold, and a finder of policies."""
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
    """Build a generation from its PrefillEvent, TokenEvents and FinishEvent."""
    finish = events[-1]
    tokens = tuple(event for event in events if isinstance(event, TokenEvent))
    prefill = next(event for event in events if isinstance(event, PrefillEvent))
    return Generation(finish.text, tokens, finish, prompt, model, config, prefill)
