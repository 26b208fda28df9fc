"""One question has one answer to the bit: by every call, in any company, whatever is observed."""

from types import SimpleNamespace

import pytest
import torch

from sol_core.actions import DENSE, GRIDS, Action, Budget
from sol_core.config import GenerationConfig, ScheduleConfig, SideRowConfig
from sol_core.decoding.batch_scheduling import PlannedRows
from sol_core.decoding.loop import DecodeOptions
from sol_core.decoding.prefix import BLOCK, read_prefix, read_prefixes
from sol_core.evaluation.rollout import roll_out
from sol_core.events import TokenEvent
from sol_core.generation.engine import generate
from sol_core.generation.scoring import ScoreCase, score_case, score_text
from sol_core.generation.sequence import RECORDS, RunOptions
from sol_core.inspection.engine import inspect_text
from sol_core.inspection.records import InspectedToken, InspectionConfig
from sol_core.lens.engine import Lens
from sol_core.lens.records import LensRun
from sol_core.lens.single_steps import single_step_losses
from sol_core.models.signals import Observe
from tests.support.tiny_language_model import make_long_model

ACTIONS = (DENSE, Action(0.3, 0.7, 8), Action(1.0, 0.5, 6), Action(0.2, 1.0, 16))
STEPS = 6
COMPANY = (
    DENSE,
    Action(0.1, 0.4, 5),
    Action(0.5, 1.0, 7),
    Action(1.0, 1.0, 9),
    Action(1.0, 0.4, 16),
)
DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def tiny(request):
    return make_long_model(dtype=request.param)


def some_text(model, count):
    generator = torch.Generator().manual_seed(3)
    most = min(model.spec.vocab_size, 200) - 1  # no special tokens
    return (torch.randint(most, (count,), generator=generator) + 1).tolist()


def by_generating(model, tokens, context, action, grid, **more):
    """Surprisals of given tokens; other rows beside, and records, change nothing."""
    side = (
        SideRowConfig("dense", ScheduleConfig("dense")),
        SideRowConfig("other", ScheduleConfig("painted", painted=COMPANY)),
    )
    config = GenerationConfig(
        ScheduleConfig("painted", painted=(action,)),
        grid=grid,
        max_new_tokens=STEPS,
        given=tuple(tokens[context + 1 :]),
        ignore_end_of_text=True,
        side_rows=side if more.get("company") else (),
    )
    options = RunOptions(record=frozenset(more.get("record", ())))
    events = generate(model, "x", config, tokens=tokens[: context + 1], options=options)
    return [event.surprisal for event in events if isinstance(event, TokenEvent)]


def by_inspecting(model, tokens, context, action, grid, monkeypatch):
    monkeypatch.setattr("sol_core.inspection.engine.text_tokens", lambda *_: (tokens, context + 1))
    given = ScheduleConfig("painted", painted=(action,))
    schedules = (given, ScheduleConfig("static", Budget(0.5, 0.6, 8)))
    config = InspectionConfig(schedules, grid=grid, prefix_tokens=context + 1, read_pages=True)
    events = [e for e in inspect_text(model, "x", config) if isinstance(e, InspectedToken)]
    return [event.rows[1].nll for event in events]


def by_evaluating(model, tokens, context, action, grid):
    """The last of the windows that an evaluation reads; they begin alike."""
    starts = [max(1, context - 9), context]
    paths = [tokens[start : start + STEPS + 1] for start in starts]
    rows = [(DENSE,), (action,), *((other,) for other in COMPANY)]
    options = DecodeOptions(STEPS, grid.mechanisms)
    for observe in (False, True):
        prefixes, how = [tokens[:start] for start in starts], grid.mechanisms if observe else None
        cache, state = read_prefixes(model.lm, prefixes, grid.page_size, how)
        scheduler = PlannedRows(rows * len(starts))
        if observe:
            scheduler.observes = Observe.CONCENTRATION
        branch = cache.branch(len(rows), STEPS)
        yield roll_out(model.lm, branch, paths, scheduler, options, state).nll[-1, 1].tolist()


def by_own_function(model, tokens, context, action, grid):
    config = GenerationConfig(ScheduleConfig("policy", policy="own"), grid=grid)
    return score_text(model, tokens, context + 1, config, lambda _: lambda _: action).nll


def check(model, grid, context, monkeypatch, actions=ACTIONS):
    tokens = some_text(model, context + STEPS + 1)
    for action in actions:
        case = ScoreCase(tuple(tokens), context, ((action,) * STEPS,), grid.page_size)
        (alone,) = score_case(model, case, grid.mechanisms)
        company = tuple((other,) * STEPS for other in COMPANY * 3)  # 16 rows
        many = ScoreCase(tuple(tokens), context, (case.schedules[0], *company), grid.page_size)
        asked = model, tokens, context, action, grid
        answers = {
            "in company": score_case(model, many, grid.mechanisms)[0],
            "own function": list(by_own_function(model, tokens, context, action, grid)),
            "generate": by_generating(*asked),
            "generate beside": by_generating(*asked, company=True),
            "generate recorded": by_generating(*asked, record=RECORDS),
            "inspect": by_inspecting(*asked, monkeypatch),
        }
        answers |= zip(("evaluate", "evaluate observed"), by_evaluating(*asked), strict=True)
        lens = Lens(model, LensRun(tuple(tokens), (action,) * STEPS, grid, shadow=True))
        answers["what if"] = [lens.look(index).taken.nll for index in range(STEPS)]
        answers["replay"] = [lens.look(index).replayed.nll for index in range(STEPS)]
        assert {name: answer for name, answer in answers.items() if answer != alone} == {}
        last = score_case(
            model,
            ScoreCase(tuple(tokens), context, ((*(DENSE,) * (STEPS - 1), action),), grid.page_size),
            grid.mechanisms,
        )[0][-1]
        (learnt,) = single_step_losses(model, tokens, context + 1, [action], grid)
        assert learnt[-1].nll == last


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", GRIDS)
def test_every_call_has_the_same_answer(tiny, name, monkeypatch):
    check(tiny, GRIDS[name], 40, monkeypatch)


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize(("name", "context"), [("default", 530), ("paper", 60)])
def test_every_call_has_the_same_answer_of_the_real_model(either_model, name, context, monkeypatch):
    """The second action is the one whose rounding tells any other order of a sum."""
    check(either_model, GRIDS[name], context, monkeypatch, ACTIONS[1:2])


@pytest.mark.usefixtures("one_thread")
def test_a_prefix_has_the_same_keys_alone_and_among_others(tiny):
    """Whole blocks that two prefixes begin with are read once."""
    long, other = some_text(tiny, BLOCK + 30), some_text(tiny, 700)[::-1]
    prefixes = [long, [*long[: BLOCK + 5], 7, 8, 9], other[:3], long[:1]]
    how, read = GRIDS["default"].mechanisms, []
    prefill = tiny.lm.prefill
    counting = SimpleNamespace(count=0)

    def counted(tokens, *args, **more):
        counting.count += tokens.numel()
        return prefill(tokens, *args, **more)

    tiny.lm.prefill = counted
    try:
        cache, state = read_prefixes(tiny.lm, prefixes, 8, how)
    finally:
        del tiny.lm.prefill
    assert counting.count == sum(map(len, prefixes)) - BLOCK
    for row, tokens in enumerate(prefixes):
        read_alone = read_prefix(tiny.lm, tokens, 8)
        alone, its_state = read_alone.cache, read_alone.state
        assert cache.own_lengths[row] == len(tokens)
        for mine, theirs in zip(cache.layers, alone.layers, strict=True):
            assert torch.equal(mine.keys[row, :, : len(tokens)], theirs.keys[0, :, : len(tokens)])
            assert torch.equal(
                mine.values[row, :, : len(tokens)], theirs.values[0, :, : len(tokens)]
            )
        read.append(torch.equal(state.hidden[row], its_state.hidden[0]))
    assert all(read)
