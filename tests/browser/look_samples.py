"""Looks through the lens that no model made: what a page shows of them is known beforehand."""

from dataclasses import asdict

from sol_core.actions import AXIS_FIELDS, DENSE, Action
from sol_core.config import GenerationConfig
from sol_core.fields import from_json
from tests.support.fake_engine import WORDS, FakeEngine

_OTHERS = ((0.15, 900, " <b>sea"), (0.35, 901, " town"))  # chosen below this share of the axis


def choice_at(share, token):
    """The token that a level chooses, by its place on the axis: the run's own from 0.35 on."""
    known = {"token_id": token["token_id"], "text": token["text"]}
    for below, token_id, text in _OTHERS:
        if share < below:
            known = {"token_id": token_id, "text": text}
            break
    return known | {"probability": 0.2 + share / 2}


def look_into(event, following, grid):
    """A look (its view): the worse, the less of dense a level spends."""
    taken = Action(**event["action"])

    def row(action, of_dense, share=1.0):
        made = {"action": asdict(action), "nll": 3 - of_dense, "kl": 1 - of_dense, "entropy": 2.0}
        return made | {"choice": choice_at(share, event)}

    axes = [
        [
            row(
                Action(**asdict(taken) | {axis: level}),
                level / levels[-1],
                1.0 if axis == "bit_width" else place / len(levels),
            )
            for place, level in enumerate(levels)
        ]
        for axis, levels in zip(AXIS_FIELDS, grid.levels(), strict=True)
    ]
    change = {"nll_change": [0.01, -0.4, 0.3, *[0.0] * (following - 3)]}
    trails = [
        {"name": name, "action": asdict(taken), "kl": [0.5] * following, **change}
        for name in ("taken", *AXIS_FIELDS)
    ]
    view = {"index": event["index"], "taken": row(taken, 0.5), "dense": row(DENSE, 1.0)}
    return view | {"axes": axes, "trails": trails, "replayed": None}


def looking(serve, tokens=WORDS):
    """A server whose model writes these tokens and sees what ``look_into`` makes up."""
    server = serve(FakeEngine(tokens, step_s=0.001))

    def ask(place, question):
        if "key" not in question.keywords:  # Compare's question
            return [{"nll": None, "problem": "No model is loaded."}] * 2
        (run_id, _), (index, *_) = question.keywords["key"], question.keywords["asked"]
        run = server.services.store.runs.get(run_id)
        event = server.services.store.runs.events(run_id)[index]
        return look_into(event, 16, from_json(GenerationConfig, run.config).grid_in_use)

    server.services.runs.ask = ask
    return server
