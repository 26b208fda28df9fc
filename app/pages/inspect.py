"""The Inspect page: its form's values and what they mean to the engine, and its Python calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from app.formats import cost_total
from app.host.errors import AppError, naming_damage
from app.pages.explore import BudgetForm, budget_values, estimate_budget, grid_choice, schedule_from
from app.pages.shared.run_calls import EXPORT_HANDLERS, RunCalls
from app.runs.recorded_run import RecordedRun
from app.web.calls import Page, Request, by_name, field, owner_of, read_form
from app.web.services import Services
from sol_core.actions import AXES, AXIS_FIELDS, Action, Budget
from sol_core.config import DEFAULT_POLICY, POLICY_PREFIX, ScheduleConfig
from sol_core.errors import ConfigError
from sol_core.fields import Range, from_json
from sol_core.files.paths import DEFAULT_MODEL
from sol_core.inspection.records import MAX_SCHEDULES, InspectionConfig

MAX_TOKENS = 4096  # of a text; as many as a generation may have
NO_SCHEDULE = ""
_ALWAYS = ("static", "painted")  # kinds of schedules that every painted inspection has
# Texts to begin with: prose with names, code, numbers in order, and repetition; long enough for a
# verdict.
_TEXTS = json.loads(Path(__file__).with_name("inspect_texts.json").read_text("utf-8"))
EXAMPLES = [{"label": label, "prompt": text} for label, text in _TEXTS.items()]


@dataclass(frozen=True, slots=True)
class InspectForm(BudgetForm):
    """The form's values as the page sends them; what they mean is checked by the engine."""

    keep: float = 50
    channels: float = 60
    bits: float = 8
    schedules: tuple[str, ...] = ("static", "emc", NO_SCHEDULE)
    max_tokens: Annotated[int, Range(2, MAX_TOKENS)] = 1024


DEFAULT_FORM: dict[str, Any] = asdict(InspectForm()) | {"schedules": list(InspectForm().schedules)}


def default_form(model: str) -> dict[str, Any]:
    """Return the form's defaults: the shipped policy beside static, where the model is its own."""
    first = ["static", POLICY_PREFIX + DEFAULT_POLICY, NO_SCHEDULE]
    own = {"schedules": first, "share": 70, "bits": 16}
    return DEFAULT_FORM | (own if model == DEFAULT_MODEL else {})


def config_from_form(values: dict[str, Any], find: Callable[[str], Path]) -> InspectionConfig:
    """The engine's configuration for the page's settings; ``find`` gives a policy's folder."""
    form = read_form(InspectForm, values)
    chosen = [name for name in form.schedules if name != NO_SCHEDULE]
    if not chosen:
        raise ConfigError("Choose at least one schedule to set beside dense.")
    schedules = tuple(schedule_from(name, form.budget, form.seed) for name in chosen)
    return InspectionConfig(
        schedules=schedules,
        grid=form.action_grid(schedules, find),
        episode_steps=form.episode_steps,
        max_tokens=form.max_tokens,
        read_pages=True,
    )


def form_from_config(record: dict[str, Any]) -> dict[str, Any]:
    """The form's values of a saved inspection without its painted schedule. Raises: SolError."""
    config = from_json(InspectionConfig, record)
    form = dict(DEFAULT_FORM)
    names = [schedule.name for schedule in config.schedules if schedule.kind != "painted"]
    form["schedules"] = [*names, *[NO_SCHEDULE] * (MAX_SCHEDULES - len(names))]
    if config.schedules:
        first = config.schedules[0]
        form |= budget_values(first.budget) | {"seed": first.seed}
    return form | {
        "max_tokens": min(config.max_tokens or MAX_TOKENS, MAX_TOKENS),
        "grid": grid_choice(config.grid_in_use),
        "quant_site": config.grid_in_use.quant_site,
        "episode_steps": config.episode_steps,
    }


def start_inspection(services: Services, request: Request) -> dict[str, Any]:
    """Queue the inspection of ``text``, or of the answer of run ``run_id``; return its id."""
    owner, form = owner_of(request), field(request, "settings", dict)
    config = config_from_form(form, services.policies.resolve_name)
    if request.get("run_id") is None:
        text = field(request, "text", str)
    else:
        text, config = _of_run(services, owner, field(request, "run_id", str), config)
    return {"run_id": services.runs.start(owner, text, config)}


def inspect_painted(services: Services, request: Request) -> dict[str, Any]:
    """Score an inspection again under an action per token, other schedules at their spend."""
    run, actions = _painted(services, request)
    with naming_damage("This inspection"):
        config = _with_painted(services, run, actions)
    return {"run_id": services.runs.start(owner_of(request), run.prompt, config)}


def painted_compute(services: Services, request: Request) -> dict[str, Any]:
    """The ``share`` of the full model's bytes that painted actions read; None without a model."""
    model, (run, actions) = services.loader.loaded(), _painted(services, request)
    if model is None:
        return {"share": None}
    with naming_damage("This inspection"):
        config = from_json(InspectionConfig, run.config)
        read, dense = _painted_bytes(model, config, run, actions)
    return {"share": read / dense}


HANDLERS = RunCalls("inspection", form_from_config).handlers() | by_name(
    start_inspection, inspect_painted, painted_compute, estimate_budget
)


def _painted(services: Services, request: Request) -> tuple[RecordedRun, list[Action]]:
    """The inspection that is painted over, and an action for each of its tokens.

    Raises: ConfigError for none, too many, or one that is not allowed.
    """
    owner, run_id = owner_of(request), field(request, "inspection_id", str)
    run = services.runs.recorded(owner, run_id, "inspection")
    rows = field(request, "painted", list)
    if not 0 < len(rows) <= MAX_TOKENS:
        raise ConfigError(f"painted must have 1 to {MAX_TOKENS:,} actions, got {len(rows):,}")
    if not all(isinstance(row, list) and len(row) == len(AXES) for row in rows):
        raise ConfigError(f"painted must have {len(AXES)} numbers for each token")
    actions = [from_json(Action, dict(zip(AXIS_FIELDS, row, strict=True))) for row in rows]
    if len(actions) != len(run.tokens):
        raise ConfigError(
            f"painted has {len(actions):,} actions, and the inspection {len(run.tokens):,} tokens"
        )
    return run, actions


def _with_painted(
    services: Services, run: RecordedRun, actions: Sequence[Action]
) -> InspectionConfig:
    """The inspection's configuration with a painted schedule, and others at its bytes.

    Where no mix reads so little, the others have the least that there is.
    """
    from sol_core.budgets.mixes import mix_table
    from sol_core.decoding.cost import CostModel
    from sol_core.inspection.engine import budget_of_bytes

    config = from_json(InspectionConfig, run.config)
    others = [schedule for schedule in config.schedules if schedule.kind not in _ALWAYS]
    others.sort(key=lambda schedule: schedule.kind != "policy")
    model = services.loader.loaded()
    if model is None:
        raise AppError("The model is not loaded yet. Try again in a moment.")
    grid, cached = config.grid_in_use, int(run.tokens[0]["cached_tokens"])
    read, dense = _painted_bytes(model, config, run, actions)
    axes = zip(*(action.as_tuple() for action in actions), strict=True)
    mean = Budget(*(sum(axis) / len(actions) for axis in axes))
    by_share = any(schedule.budget.bytes_share is not None for schedule in config.schedules)
    if by_share:
        full, *rows = (row["cost"] for row in run.tokens[0]["rows"])
        own = max(row["policy_bytes"] for row in rows) / cost_total(full, "bytes")
        lowest = mix_table(model, grid).lowest_share(cached) + own
        share = min(max(read / dense, lowest), 1.0)

    def budget_of(schedule: ScheduleConfig) -> Budget:
        """The painted spend; a policy's network is a part of its bytes."""
        if by_share:
            return Budget.share(share, mean.bit_width)
        if schedule.kind != "policy":
            return mean
        index = config.rows.index(schedule.name)
        network = sum(token["rows"][index]["cost"]["policy_bytes"] for token in run.tokens)
        num_bytes, context = (read - network) / len(actions), cached + len(actions) // 2
        return budget_of_bytes(CostModel.of(model.lm, grid), grid, mean, context, num_bytes)

    beside = [ScheduleConfig("static"), *others][: MAX_SCHEDULES - 1]
    schedules = tuple(replace(schedule, budget=budget_of(schedule)) for schedule in beside)
    painted = ScheduleConfig("painted", mean, painted=tuple(actions))
    return replace(config, schedules=(*schedules, painted))


def _painted_bytes(
    model: Any, config: InspectionConfig, run: RecordedRun, actions: Sequence[Action]
) -> tuple[float, float]:
    """Bytes of one step per action, and of the full model's steps.

    An action is taken to read as many times its computed bytes as the token's step under the row
    that was painted over did: which pages heads need, and how much of the head, is only measured.
    """
    from sol_core.decoding.cost import CostModel

    costs, names = CostModel.of(model.lm, config.grid_in_use), config.rows
    over = next((names.index(kind) for kind in reversed(_ALWAYS) if kind in names), 1)
    read = dense = 0.0
    for action, token in zip(actions, run.tokens, strict=True):
        full, row = token["rows"][0]["cost"], token["rows"][over]
        most, context = cost_total(full, "bytes"), token["cached_tokens"]
        measured = cost_total(row["cost"], "bytes") - row["cost"]["policy_bytes"]
        computed = costs.decode_step(Action(**row["action"]), context).bytes_read
        painted = costs.decode_step(action, context).bytes_read
        read += most if action.is_dense else min(painted * measured / computed, most)
        dense += most
    return read, dense


def _of_run(
    services: Services, owner: str, run_id: str, config: InspectionConfig
) -> tuple[str, InspectionConfig]:
    """A saved run's prompt, and the configuration that inspects what was generated after it."""
    run = services.runs.recorded(owner, run_id)
    if not run.tokens:
        raise AppError("This run has no generated tokens: there is nothing to inspect.")
    prompt, chat = run.asked
    # The limit is for texts; a run is never cut.
    whole = replace(config, generated=tuple(run.token_ids), chat=chat, max_tokens=None)
    return prompt, whole


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": default_form(services.loader.status().name),
        "examples": EXAMPLES,
        "maxTokens": MAX_TOKENS,
        "maxCharacters": services.limits.characters,
    }


PAGE = Page("inspect", "Inspect", HANDLERS | EXPORT_HANDLERS, _constants)
