"""The Explore page: its form, in percent and plain words, and its Python calls.

Streaming through Gradio's own components costs 10 kB a token and seconds of lag; a script that
polls with a cursor costs 0.4 kB and a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from app.host.errors import naming_damage
from app.pages.shared.run_calls import EXPORT_HANDLERS, RunCalls, compare_pair
from app.policies.library import grid_for, usual_schedule
from app.results.shipped import likely_dtype, shipped_recording
from app.runs.recorded_run import config_without, fork_config
from app.web.calls import Page, Request, by_name, field, owner_of, read_form, whole_numbers
from app.web.services import Services
from sol_core.actions import AXES, DEFAULT_GRID, GRIDS, ActionGrid, Budget, QuantSite, grid_name
from sol_core.config import (
    POLICY_PREFIX,
    GenerationConfig,
    SamplingConfig,
    ScheduleConfig,
    SideRowConfig,
)
from sol_core.errors import ConfigError, ContextLengthError, SolError
from sol_core.fields import Range, from_json

MAX_NEW_TOKENS = 4096
DEFAULT_SHARE, DEFAULT_BITS = 90, 16  # percent of the full model's bytes; bits of activations
CHARACTERS_A_TOKEN = 4  # of English text, roughly
# Nats a token that nobody sees: 89 % of the bytes after a question, 84 % after 2,000 tokens, 65 %
# after 7,000. At 89 % five of the six examples (in bf16 all) begin with the full model's 40 tokens.
UNSEEN_DAMAGE, MOST_SHARE = 0.0008, 0.99
POLICYS_GRID = "policy"  # the policy's own; without one, the default grid
# Prompts to begin with, chosen so that they differ in what the model finds hard.
_PROMPTS = {
    "Facts": "What is the capital of Japan, and what is it known for?",
    "A story": "The lighthouse keeper had not spoken to anyone for forty days. Then, one evening,",
    "Arithmetic": "A train travels 60 km per hour for 3 hours. How far does it go? Explain each "
    "step.",
    "Code": 'def fibonacci(n):\n    """Return the first n Fibonacci numbers."""\n',
    "French": "La capitale de la France est Paris. La capitale de l'Italie est",
    "A list": "The planets of the solar system, in order from the sun: Mercury, Venus,",
}
EXAMPLES: tuple[dict[str, Any], ...] = tuple(
    {"label": label, "prompt": prompt, "chat": label in ("Facts", "Arithmetic")}
    for label, prompt in _PROMPTS.items()
)


def budget_values(budget: Budget) -> dict[str, float]:
    """The form's percents and bits of a budget: a share, or a value per axis."""
    if budget.bytes_share is not None:
        return {"share": round(100 * budget.bytes_share, 4), "bits": budget.bit_width}
    pairs = zip(AXES, budget.as_tuple(), strict=True)
    return {"share": 0} | {axis.short: round(value * axis.scale, 4) for axis, value in pairs}


@dataclass(frozen=True, slots=True)
class BudgetForm:
    """Values of forms that ask for schedules; a ``share`` decides attention and channels."""

    keep: float = 50
    channels: float = 75
    bits: float = 10
    share: Annotated[float, Range(0, 100)] = 0
    seed: int = 0
    grid: str = POLICYS_GRID
    quant_site: QuantSite = "mlp_output"
    episode_steps: int = 16

    @property
    def budget(self) -> Budget:
        """The mean spend. Raises: ConfigError in the form's words for one that no grid has."""
        try:
            if self.share:
                return Budget.share(self.share / 100, self.bits)
            return Budget(*(getattr(self, axis.short) / axis.scale for axis in AXES))
        except ConfigError:
            self._check_budget(GRIDS[DEFAULT_GRID])
            raise

    def action_grid(
        self, schedules: Sequence[ScheduleConfig], find: Callable[[str], Path]
    ) -> ActionGrid:
        """The grid that is asked for. Raises: as ``grid_for``; ConfigError in the form's words."""
        name = None if self.grid == POLICYS_GRID else self.grid
        grid = grid_for(name, self.quant_site, schedules, find)
        if any(schedule.kind != "dense" for schedule in schedules):
            self._check_budget(grid)
        return grid

    def _check_budget(self, grid: ActionGrid) -> None:
        for axis, levels in zip(AXES, grid.levels(), strict=True):
            if self.share and axis.field != "bit_width":
                continue
            value = getattr(self, axis.short)
            low, high = levels[0] * axis.scale, levels[-1] * axis.scale
            if not low - 1e-6 <= value <= high + 1e-6:
                raise ConfigError(f"{axis.label}: {low:g} to {high:g} {axis.unit}, got {value:g}.")


@dataclass(frozen=True, slots=True)
class ExploreForm(BudgetForm):
    """The form's values as the page sends them; what they mean is checked by the engine."""

    chat: bool = True
    schedule: str = "emc"
    shadow: bool = True
    static_row: bool = False
    max_new_tokens: Annotated[int, Range(1, MAX_NEW_TOKENS)] = 128
    temperature: float = 0
    top_k: int = 0
    top_p: float = 1
    repetition_penalty: float = 1
    stop: str = ""
    ignore_end_of_text: bool = False


DEFAULT_FORM: dict[str, Any] = asdict(ExploreForm())
# Values that the engine's configurations call alike.
_SAMPLING = tuple(field.name for field in fields(SamplingConfig))
_SAME = ("chat", "max_new_tokens", "ignore_end_of_text", "episode_steps")


def default_form(model: str, max_tokens: int = MAX_NEW_TOKENS) -> dict[str, Any]:
    """Return the form's defaults for a model."""
    tokens = min(DEFAULT_FORM["max_new_tokens"], max_tokens)
    schedule = usual_schedule(model, by_share=True)
    budget = {"schedule": schedule, "share": DEFAULT_SHARE, "bits": DEFAULT_BITS}
    return DEFAULT_FORM | budget | {"max_new_tokens": tokens}


def config_from_form(values: dict[str, Any], find: Callable[[str], Path]) -> GenerationConfig:
    """The engine's configuration for the page's settings; ``find`` gives a policy's folder."""
    form = read_form(ExploreForm, values)
    budget = Budget() if form.schedule == "dense" else form.budget
    schedule = schedule_from(form.schedule, budget, form.seed)
    stops = (line.replace("\\n", "\n") for line in form.stop.splitlines())  # one per line
    return GenerationConfig(
        schedule=schedule,
        side_rows=_side_rows(form, schedule),
        sampling=SamplingConfig(**{name: getattr(form, name) for name in _SAMPLING}),
        grid=form.action_grid([schedule], find),
        stop_strings=tuple(dict.fromkeys(filter(None, stops))),
        page_reads=True,
        **{name: getattr(form, name) for name in _SAME},
    )


def form_from_config(record: dict[str, Any]) -> dict[str, Any]:
    """The form's values of a saved run. Raises: SolError where this release cannot read them."""
    config = from_json(GenerationConfig, record)
    side = {row.name for row in config.side_rows}
    is_dense = config.schedule.kind == "dense"
    return {
        **DEFAULT_FORM,
        **({} if is_dense else budget_values(config.schedule.budget)),
        **{name: getattr(config, name) for name in _SAME},
        **asdict(config.sampling),
        "schedule": config.schedule.name,
        "shadow": is_dense or "dense" in side,
        "static_row": "static" in side,
        "stop": "\n".join(text.replace("\n", "\\n") for text in config.stop_strings),
        "grid": grid_choice(config.grid_in_use),
        "quant_site": config.grid_in_use.quant_site,
    }


def grid_choice(grid: ActionGrid) -> str:
    """The value of a form that asks for this grid; one without a name is its policy's own."""
    name = grid_name(grid)
    return name if name in GRIDS else POLICYS_GRID


def schedule_from(name: str, budget: Budget, seed: int) -> ScheduleConfig:
    """The schedule of a kind's name, or of "policy:NAME"."""
    if name == "dense":
        return ScheduleConfig(kind="dense")
    if name.startswith(POLICY_PREFIX):
        policy = name.removeprefix(POLICY_PREFIX).strip()
        if not policy:
            raise ConfigError("Choose a policy. Where none is stored, train one in the Lab.")
        return ScheduleConfig(kind="policy", budget=budget, policy=policy)
    return ScheduleConfig(kind=name, budget=budget, seed=seed)  # type: ignore[arg-type]  # checked by ScheduleConfig


def _side_rows(form: ExploreForm, schedule: ScheduleConfig) -> tuple[SideRowConfig, ...]:
    """Shadows that are asked for and would differ from the run itself."""
    rows = []
    if form.shadow and schedule.kind != "dense":
        rows.append(SideRowConfig("dense", ScheduleConfig(kind="dense")))
    if form.static_row and schedule.kind not in ("dense", "static"):
        rows.append(SideRowConfig("static", ScheduleConfig("static", schedule.budget)))
    return tuple(rows)


def start_run(services: Services, request: Request) -> dict[str, Any]:
    owner, prompt = owner_of(request), field(request, "prompt", str)
    config = config_from_form(field(request, "settings", dict), services.policies.resolve_name)
    _refuse_too_long(services, prompt, config)
    if (parent := request.get("parent")) is not None:  # its full model's answer
        services.runs.recorded(owner, field(request, "parent", str))
    return {"run_id": services.runs.start(owner, prompt, config, parent)}


def _refuse_too_long(services: Services, prompt: str, config: GenerationConfig) -> None:
    """Raises: ContextLengthError, so that no run is queued which then fails."""
    from sol_core.generation.engine import encode_prompt  # torch

    model = services.loader.loaded()
    if model is None or len(prompt) > services.limits.characters:
        return
    try:
        encode_prompt(model, prompt, chat=config.chat)
    except ContextLengthError:
        raise
    except SolError:
        pass


def fork_run(services: Services, request: Request) -> dict[str, Any]:
    """Queue a copy of a run with one token replaced; return its id."""
    asked = field(request, "index", int), field(request, "token_id", int)
    return _run_again(services, request, fork_config, *asked, services.limits.new_tokens)


def run_without(services: Services, request: Request) -> dict[str, Any]:
    """Queue a copy of a run without some pages of its prompt; return its id."""
    return _run_again(services, request, config_without, whole_numbers(request, "pages"))


def _run_again(
    services: Services, request: Request, changed: Callable[..., GenerationConfig], *how: Any
) -> dict[str, Any]:
    owner, run_id = owner_of(request), field(request, "run_id", str)
    run = services.runs.recorded(owner, run_id)
    run.check_model(services.loader.status())
    with naming_damage("This run"):
        config = changed(run, *how)
    return {"run_id": services.runs.start(owner, run.prompt, config, run_id)}


def compare_runs(services: Services, request: Request) -> dict[str, Any]:
    """Two ended runs: alignment, first divergence, and each text under the full model."""
    run_ids = field(request, "a", str), field(request, "b", str)
    return compare_pair(services, owner_of(request), run_ids)


def estimate_budget(services: Services, request: Request) -> dict[str, Any]:
    """The mix of these settings after so many characters, and what it reads; {} if none runs."""
    from sol_core.budgets.mixes import mix_table  # torch, which the page is served without
    from sol_core.budgets.prediction import ZONE_ENDS, predict_step
    from sol_core.decoding.cost import CostModel

    config = config_from_form(field(request, "settings", dict), services.policies.resolve_name)
    characters = field(request, "characters", int)
    model = services.loader.loaded()
    if model is None:
        return {}
    tokens = max(characters, 0) // CHARACTERS_A_TOKEN
    if tokens >= model.context_length:
        return {}
    tokens += config.max_new_tokens // 2
    context, budget = min(tokens + 1, model.context_length), config.schedule.budget
    grid = config.grid_in_use
    costs, answer = CostModel.of(model.lm, grid), dict[str, Any]()
    if budget.bytes_share is not None:
        mixes = mix_table(model, grid)
        asked = Budget.share(max(budget.bytes_share, mixes.lowest_share(context)), budget.bit_width)
        predicted = predict_step(mixes, model.lm.step_times, asked, context)
        budget = mixes.mean(budget.bytes_share, context, budget.bit_width)
        answer = {
            "zone": predicted.zone,
            "zones": [mixes.share_at(damage, context) for damage in ZONE_ENDS],
            "speed": predicted.speed_words,
            "times": predicted.speed,
            "lowest": mixes.lowest_share(context),
            "usual": min(mixes.share_at(UNSEEN_DAMAGE, context), MOST_SHARE),
            "measured_on": "" if mixes.measured_on == model.name else mixes.measured_on,
        }
    read, dense = (costs.decode_step(of, context).bytes_read for of in (budget, Budget()))
    return answer | {"context": context, "share": read / dense, "mix": budget_values(budget)}


def recording(services: Services, request: Request) -> dict[str, Any]:
    """The story as a model of this dtype answered it."""
    return shipped_recording(field(request, "dtype", str))


HANDLERS = RunCalls("generation", form_from_config).handlers() | by_name(
    start_run, fork_run, run_without, compare_runs, estimate_budget, recording
)


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": default_form(services.loader.status().name, services.limits.new_tokens),
        "examples": EXAMPLES,
        "maxCharacters": services.limits.characters,
        "maxNewTokens": services.limits.new_tokens,
        "recording": shipped_recording(likely_dtype()),
    }


PAGE = Page("explore", "Explore", HANDLERS | EXPORT_HANDLERS, _constants)
