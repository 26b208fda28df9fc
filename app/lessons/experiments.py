"""The lessons' experiments: a model and the name of a text in, one JSON object out.

Each takes one to ten seconds on two CPU cores and touches nothing but the model. Torch is
imported with the first one. The texts were written for them, so that a class sees the same.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from app.lessons.experiment_queue import Experiment, check_wanted
from app.policies.library import PolicyLibrary
from app.results.shipped import prompt_of, shipped_recording
from sol_core.actions import DEFAULT_GRID, DENSE, GRIDS, Action, ActionGrid, Budget
from sol_core.config import DEFAULT_POLICY, GenerationConfig, ScheduleConfig
from sol_core.errors import SolError
from sol_core.events import TokenEvent, event_to_dict

if TYPE_CHECKING:
    from sol_core.decoding.cost import CostModel
    from sol_core.lens.single_steps import StepLoss

CONTINUED = 12  # tokens
READING = ("attention", "mlp", "head")  # parts of a step that read weights
SCORED = 32  # the passage's last tokens, whose steps are compressed
KEEP_LEVELS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
BIT_LEVELS = (3, 4, 5, 6, 7, 8)
BIT_STEPS = 12
BLOCK = GRIDS[DEFAULT_GRID].mechanisms.quant_block  # channels that share a scale
SPEND_STEPS = 24
SPEND_BUDGET = 0.5  # of the channels
PAGE_FRACTIONS = (0.2, 0.4)
MLP_FRACTIONS = (0.6, 0.8)  # of its weights

# Long enough for attention to have something to leave out; each comes back to a name or a
# number from its beginning.
PASSAGES: dict[str, str] = {
    "lighthouse": (
        "Mira Okafor keeps the lighthouse at Port Selwyn. Every evening at six she climbs the "
        "one hundred and twelve steps, lights the lamp, and writes the weather in a blue "
        "notebook. On Mondays a small boat brings bread, oil and letters. Nobody else lives on "
        "the island. When the storm came in March, the boat did not arrive for nine days, and "
        "the lamp nearly went out. At last a fisherman called across the water and asked who "
        "kept the light. She answered that her name was Mira Okafor, and that this was Port "
        "Selwyn."
    ),
    "recipe": (
        "For the lentil soup you need two onions, three carrots, a cup of red lentils, a spoon "
        "of cumin and the juice of one lemon. Chop the onions and fry them slowly in oil until "
        "they are soft. Add the carrots and the cumin and stir for a minute. Then pour in a "
        "litre of water and the lentils, and let everything cook for twenty minutes. Taste it, "
        "add salt, and only at the very end squeeze in the juice of the lemon. Serve the lentil "
        "soup with bread."
    ),
    "comet": (
        "The comet Zelinka was first seen in 1911 by a schoolteacher in Brno. It returns every "
        "fifty-six years, passes close to the sun, and grows a tail that can be seen without a "
        "telescope. Astronomers study its ice because it is older than the Earth. In 1967 a "
        "small probe flew past it and measured water, dust and carbon. The next visit was "
        "expected in 2023, and people in Brno stood on their roofs to wait for the comet "
        "Zelinka."
    ),
}

# Long enough for a verdict on a painted schedule.
PAINTED = f"{PASSAGES['lighthouse']}\n\n{PASSAGES['comet']}"

# One step each: what comes next?
BEGINNINGS: dict[str, str] = {
    "capital": "The capital of France is",
    "keeper": "The lighthouse keeper climbed the",
    "count": "One, two, three, four,",
    "door": "She opened the door and saw a",
}

# Questions about the story that Explore opens with, and how an answer begins.
STORY_QUESTIONS = {
    "horse": ("What is the doctor's horse called?", "The doctor's horse is called"),
    "lamp": ("How far can the lamp be seen?", "The lamp can be seen for"),
    "bridge": ("When was the bridge finished?", "The bridge of grey stone was finished in"),
}


def steps(model: Any, name: str) -> dict[str, Any]:
    """A beginning continued densely, then at the lowest levels; ``parts`` has both's medians."""
    text = BEGINNINGS[name]
    _continued(model, text, ScheduleConfig("dense"))  # what is slow the first time is no step's
    rows = _continued(model, text, ScheduleConfig("dense"))
    lowest = Budget(*(levels[0] for levels in GRIDS[DEFAULT_GRID].levels()))
    least = _continued(
        model, text, ScheduleConfig("static", lowest), tuple(row.token_id for row in rows)
    )
    return {
        "prompt": text,
        "rows": [event_to_dict(row) for row in rows],
        "least": lowest.as_tuple(),
        "parts": {"dense": _parts(rows), "least": _parts(least)},
    }


def pages(model: Any, name: str) -> dict[str, Any]:
    """The last tokens' losses if their steps read fewer pages, and which; one level reads all."""

    tokens = _tokens(model, PASSAGES[name])
    first = max(1, len(tokens) - SCORED)
    grid = GRIDS[DEFAULT_GRID]
    actions = [Action(keep_fraction=keep) for keep in KEEP_LEVELS]
    table = _losses(model, tokens, first, actions, grid, with_reads=True)
    return {
        "tokens": _texts(model, tokens),
        "first": first,
        "page_size": grid.page_size,
        "reads": [_reads(row) for row in table[:-1]],
        "levels": KEEP_LEVELS,
        "nll": [[loss.nll for loss in row] for row in table],
        "kl": [[loss.kl for loss in row] for row in table],
    }


def missing(model: Any, name: str) -> dict[str, Any]:
    """The recorded story and a question: its answer's first token, each page left out in turn."""
    from sol_core.lens.engine import Lens
    from sol_core.lens.records import LensRun

    question, stem = STORY_QUESTIONS[name]
    prompt = prompt_of(shipped_recording(model.dtype_name)["story"], question, stem)
    config, grid = GenerationConfig(max_new_tokens=1, ignore_end_of_text=True), GRIDS[DEFAULT_GRID]
    (said,) = _tokens_of(model, prompt, config)
    tokens = _tokens(model, prompt)
    lens = Lens(model, LensRun((*tokens, said.token_id), (DENSE,), grid))
    measured = lens.page_effects(0)
    while len(measured.effects) < measured.count:
        check_wanted()
        measured = lens.page_effects(0)
    texts, size = _texts(model, tokens), grid.page_size
    return {
        "question": question,
        "stem": stem,
        "tokens": len(tokens),
        "said": said.text,
        "probability": math.exp(-said.surprisal),
        "correlation": measured.correlation,
        "rows": [
            {
                "text": "".join(texts[page * size : (page + 1) * size]),
                "kl": effect.kl,
                "probability": math.exp(-effect.nll),
                "said": effect.choice.text,
                "changed": effect.choice.token_id != said.token_id,
                "attention": attention,
            }
            for page, (effect, attention) in enumerate(
                zip(measured.effects, measured.attention, strict=True)
            )
        ],
    }


def channels(model: Any, name: str) -> dict[str, Any]:
    """Run one step at every level of the MLP's channels: KL, five tokens, and what is read."""
    from sol_core.decoding.cost import CostModel
    from sol_core.lens.single_steps import next_choices

    check_wanted()  # one step, which cannot be stopped
    text, grid = BEGINNINGS[name], ActionGrid()
    actions = [Action(channel_keep_ratio=level) for level in grid.channel_keep_ratios]
    _, *rows = next_choices(model, _tokens(model, text), actions)
    costs = CostModel.of(model.lm, grid)
    return {
        "prompt": text,
        "width": model.spec.hidden_size,
        "layers": model.spec.num_layers,
        "levels": grid.channel_keep_ratios,
        "rows": [
            asdict(row) | _mlp_reads(costs, action)
            for row, action in zip(rows, actions, strict=True)
        ],
    }


def mechanisms(model: Any, name: str) -> dict[str, Any]:
    """Skip pages, then bytes of the MLP, in the paper's ways and in the default ones."""
    from sol_core.decoding.cost import CostModel

    tokens = _tokens(model, PASSAGES[name])
    first = max(1, len(tokens) - SCORED)
    pages: dict[str, Any] = {"fractions": PAGE_FRACTIONS}
    mlp: dict[str, Any] = {"fractions": MLP_FRACTIONS}
    for way in ("paper", "default"):
        grid = GRIDS[way]
        few = [Action(keep_fraction=kept) for kept in PAGE_FRACTIONS]
        ratios = map(grid.mechanisms.pruner.ratio, MLP_FRACTIONS)  # with which a step reads them
        thin = [Action(channel_keep_ratio=ratio) for ratio in ratios]
        table = _losses(model, tokens, first, few + thin, grid, with_reads=True)
        costs = CostModel.of(model.lm, grid)
        dense = costs.decode_step(DENSE, 0)
        mlp["dense_bytes"] = dense.mlp_bytes
        pages[way] = [
            {
                "kl": [loss.kl for loss in row],
                "cache_bytes": costs.decode_step(action, len(tokens)).attention_bytes
                - dense.attention_bytes,
                "reads": _reads(row),
            }
            for action, row in zip(few, table[: len(few)], strict=True)
        ]
        mlp[way] = [
            {"kl": [loss.kl for loss in row]} | _mlp_reads(costs, action)
            for action, row in zip(thin, table[len(few) :], strict=True)
        ]
    return {
        "tokens": _texts(model, tokens),
        "first": first,
        "page_size": ActionGrid().page_size,
        "layers": model.spec.num_layers,
        "pages": pages,
        "mlp": mlp,
    }


def bits(model: Any, name: str) -> dict[str, Any]:
    """Round the MLP's activations: the effect on one output's numbers, and on the steps."""
    from sol_core.lens.single_steps import most_massive_output

    tokens = _tokens(model, PASSAGES[name])
    first = max(1, len(tokens) - BIT_STEPS)
    actions = [Action(bit_width=width) for width in BIT_LEVELS]
    kl = {}
    for scales, block in (("one", 0), ("blocks", BLOCK)):
        table = _losses(model, tokens, first, actions, replace(ActionGrid(), quant_block=block))
        kl[scales] = [sum(loss.kl for loss in row) / len(row) for row in table]
    output = most_massive_output(model, tokens, first, GRIDS[DEFAULT_GRID].bit_widths)
    return {
        "steps": len(tokens) - first,
        "levels": BIT_LEVELS,
        "kl": kl,
        "block": BLOCK,
        **asdict(output),
        "token": _texts(model, tokens)[output.token],
    }


def spenders(model: Any, name: str, policies: PolicyLibrary) -> dict[str, Any]:
    """The same channels in total, spent evenly, by the shipped policy if it fits, in hindsight."""
    from sol_core.lens.single_steps import compare_spenders
    from sol_core.policy.policy import load_policy

    tokens = _tokens(model, PASSAGES[name])
    first = max(2, len(tokens) - SPEND_STEPS)
    policy, problem, grid = None, None, GRIDS[DEFAULT_GRID]
    try:
        policy = load_policy(policies.resolve_name(DEFAULT_POLICY), model, grid=grid)
    except SolError as error:
        problem = str(error)
    plans, table = compare_spenders(
        model, tokens, first, SPEND_BUDGET, policy, after_step=check_wanted
    )
    levels, spent = grid.channel_keep_ratios, next(iter(plans.values()))
    kl = [[loss.kl for loss in row] for row in table]
    return {
        "tokens": _texts(model, tokens),
        "first": first,
        "policy": problem,
        "budget": SPEND_BUDGET,
        "spend": sum(spent) / len(spent),
        "levels": levels,
        "kl": kl,
        "spenders": [
            {
                "name": spender,
                "channels": channels,
                "kl": [kl[levels.index(level)][step] for step, level in enumerate(channels)],
            }
            for spender, channels in plans.items()
        ],
    }


def lesson_experiments(policies: PolicyLibrary) -> dict[str, Experiment]:
    """All experiments by name; the shipped policy is looked up when it is asked for."""
    return {
        "steps": Experiment(steps, BEGINNINGS),
        "pages": Experiment(pages, PASSAGES),
        "missing": Experiment(missing, STORY_QUESTIONS),
        "channels": Experiment(channels, BEGINNINGS),
        "mechanisms": Experiment(mechanisms, PASSAGES),
        "bits": Experiment(bits, PASSAGES),
        "spenders": Experiment(functools.partial(spenders, policies=policies), PASSAGES),
    }


def _continued(
    model: Any, text: str, schedule: ScheduleConfig, given: tuple[int, ...] = ()
) -> list[TokenEvent]:
    config = GenerationConfig(
        schedule, max_new_tokens=CONTINUED, ignore_end_of_text=True, given=given
    )
    return _tokens_of(model, text, config)


def _tokens_of(model: Any, text: str, config: GenerationConfig) -> list[TokenEvent]:
    from sol_core.generation.engine import generate

    events = []
    for event in generate(model, text, config):
        check_wanted()
        if isinstance(event, TokenEvent):
            events.append(event)
    return events


def _parts(rows: Sequence[TokenEvent]) -> dict[str, dict[str, float]]:
    """Median milliseconds of each part of these steps, and bytes of those that read weights."""
    times = [asdict(row.parts_ms) for row in rows if row.parts_ms]
    costs = [asdict(row.cost) for row in rows]
    return {
        "ms": {part: median(sample[part] for sample in times) for part in times[0]},
        "bytes": {part: median(sample[f"{part}_bytes"] for sample in costs) for part in READING},
    }


def _reads(row: Sequence[StepLoss]) -> list[dict[str, Any]]:
    return [asdict(loss.page_reads) for loss in row if loss.page_reads]


def _mlp_reads(costs: CostModel, action: Action) -> dict[str, Any]:
    """Fractions of the MLP's input and inner channels that a step keeps, and its bytes."""
    return {
        "mlp_fractions": costs.mechanisms.mlp_fractions(action.channel_keep_ratio),
        "mlp_bytes": costs.decode_step(action, 0).mlp_bytes,
    }


def _tokens(model: Any, text: str) -> list[int]:
    from sol_core.generation.engine import encode_prompt

    return encode_prompt(model, text, chat=False)


def _texts(model: Any, tokens: list[int]) -> list[str]:
    from sol_core.generation.sampling import TextStream

    stream = TextStream(model.text_codec)
    return [stream.push(token) for token in tokens]


def _losses(*asked: Any, with_reads: bool = False) -> list[list[StepLoss]]:
    """``single_step_losses``, while somebody asks for them. Raises: AbandonedError."""
    from sol_core.lens.single_steps import single_step_losses

    return single_step_losses(*asked, with_reads=with_reads, after_step=check_wanted)
