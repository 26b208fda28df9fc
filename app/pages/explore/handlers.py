"""Python calls of the Explore page. Each handler takes the services and one JSON object.

Streaming through Gradio's own components costs 10 kB a token and seconds of lag; a script that
polls with a cursor costs 0.4 kB and a tenth of a second.
"""

from __future__ import annotations

from typing import Any

from app.host.damage import naming_damage
from app.pages.explore.form import (
    budget_values,
    config_from_form,
    default_form,
    form_from_config,
)
from app.pages.shared.run_calls import RunCalls
from app.pages.shared.sharing_calls import EXPORT_HANDLERS, compare_pair
from app.results.shipped import shipped_recording
from app.runs.recorded_run import config_without, fork_config
from app.web.calls import Request, by_name, field, owner_of, whole_numbers
from app.web.component import Page
from app.web.services import Services
from sol_core.actions import DENSE

CHARACTERS_A_TOKEN = 4  # of English text, roughly
# Nats a token that nobody sees: 89 % of the bytes after a question, 84 % after 2,000 tokens, 65 %
# after 7,000. At 89 % five of the six examples begin with the full model's 40 tokens.
UNSEEN_DAMAGE, MOST_SHARE = 0.0008, 0.99


def start_run(services: Services, request: Request) -> dict[str, Any]:
    owner, prompt = owner_of(request), field(request, "prompt", str)
    config = config_from_form(field(request, "settings", dict), services.policies.resolve_name)
    return {"run_id": services.runs.start(owner, prompt, config)}


def fork_run(services: Services, request: Request) -> dict[str, Any]:
    """Put a run in line that is another one with one token exchanged; answers with its id."""
    owner, run_id = owner_of(request), field(request, "run_id", str)
    run = services.runs.recorded(owner, run_id)
    index, token_id = field(request, "index", int), field(request, "token_id", int)
    run.check_model(services.loader.status())
    with naming_damage("This run"):
        config = fork_config(run, index, token_id, services.limits.new_tokens)
    return {"run_id": services.runs.start(owner, run.prompt, config, run_id)}


def run_without(services: Services, request: Request) -> dict[str, Any]:
    """Put a run in line that is another one without pages of its prompt; answers with its id."""
    owner, run_id = owner_of(request), field(request, "run_id", str)
    run, pages = services.runs.recorded(owner, run_id), whole_numbers(request, "pages")
    run.check_model(services.loader.status())
    with naming_damage("This run"):
        config = config_without(run, pages)
    return {"run_id": services.runs.start(owner, run.prompt, config, run_id)}


def compare_runs(services: Services, request: Request) -> dict[str, Any]:
    """Two ended runs: alignment, first divergence, and each text under the full model."""
    run_ids = field(request, "a", str), field(request, "b", str)
    return compare_pair(services, owner_of(request), run_ids)


def estimate_budget(services: Services, request: Request) -> dict[str, Any]:
    """The mix of these settings after so many characters, and what it reads; {} without a model."""
    from sol_core.budgets.mixes import mix_table  # torch, which the page is served without
    from sol_core.decoding.cost import CostModel

    config = config_from_form(field(request, "settings", dict), services.policies.resolve_name)
    characters = field(request, "characters", int)
    model = services.loader.loaded()
    if model is None:
        return {}
    tokens = max(characters, 0) // CHARACTERS_A_TOKEN + config.max_new_tokens // 2
    context, budget = min(tokens + 1, model.context_length), config.schedule.budget
    costs, answer = CostModel.of(model.lm, config.grid), {}
    if budget.bytes_share is not None:
        mixes = mix_table(model, config.grid)
        budget = mixes.mean(budget.bytes_share, context, budget.bit_width)
        answer = {
            "lowest": mixes.lowest(context),
            "usual": min(mixes.share_at(UNSEEN_DAMAGE, context), MOST_SHARE),
            "measured_on": "" if mixes.measured_on == model.name else mixes.measured_on,
        }
    read, dense = (costs.decode_step(of, context).bytes_read for of in (budget, DENSE))
    return answer | {"context": context, "share": read / dense, "mix": budget_values(budget)}


HANDLERS = RunCalls("generation", form_from_config).handlers() | by_name(
    start_run, fork_run, run_without, compare_runs, estimate_budget
)


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


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": default_form(services.limits.new_tokens),
        "examples": EXAMPLES,
        "maxCharacters": services.limits.characters,
        "maxNewTokens": services.limits.new_tokens,
        "recording": shipped_recording(),
    }


PAGE = Page("explore", "Explore", HANDLERS | EXPORT_HANDLERS, _constants)
