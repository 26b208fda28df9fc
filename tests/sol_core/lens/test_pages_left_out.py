"""Pages taken away: a step, a ranking and a generation that never read them."""

import numpy as np
import pytest
import torch

from sol_core.actions import DENSE, GRIDS, Action, Budget
from sol_core.config import ScheduleConfig, SideRowConfig
from sol_core.errors import ConfigError, ShapeError
from sol_core.events import FinishEvent, PrefillEvent
from sol_core.generation.engine import encode_prompt, generate
from sol_core.lens.engine import Lens
from sol_core.models.signals import Observe
from tests.sol_core.lens.test_lens import GRID, configured, made

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPT = "The keeper of the light wrote a long letter to the harbour master about the lamp"
SPARSE = Action(0.5, 1.0, 16)


def prefilled(model, page_size=4, prompt=PROMPT):
    tokens = encode_prompt(model, prompt, chat=False)
    cache = model.lm.new_cache(1, len(tokens) + 4, page_size=page_size)
    model.lm.prefill(torch.tensor([tokens[:-1]]), cache)
    return cache, tokens


@pytest.mark.parametrize("action", [DENSE, SPARSE], ids=["dense", "sparse"])
@pytest.mark.parametrize("grid", [GRID, GRIDS["default"]], ids=["paper", "default"])
def test_a_page_left_out_is_not_read(model, action, grid):
    size = grid.page_size
    cache, tokens = prefilled(model, size)
    fed, pages = torch.tensor([tokens[-1]]), [1, 3]
    step = {"mechanisms": grid.mechanisms, "record": {"pages"}}
    plain = model.lm.decode_step(fed, cache.branch(1, 4), action, **step)
    without = model.lm.decode_step(fed, cache.branch(1, 4), action, left_out=[pages], **step)
    assert not without.page_readers[0, :, pages].any()
    assert (without.logits - plain.logits).abs().max() > 1e-3
    seen = (len(tokens) - 2 * size) * model.spec.num_kv_heads
    if action.is_dense:
        assert without.tokens_read.tolist() == [[seen] * model.spec.num_layers]
    nothing = model.lm.decode_step(fed, cache.branch(1, 4), action, left_out=[[]], **step)
    assert torch.equal(nothing.logits, plain.logits)


def test_its_keys_and_values_reach_nothing(model):
    cache, tokens = prefilled(model)
    fed = torch.tensor([tokens[-1]])
    want = model.lm.decode_step(fed, cache.branch(1, 4), left_out=[[2]])
    for layer in range(model.spec.num_layers):
        (block,) = cache.blocks(layer, 0)
        block.keys[:, :, 8:12] = 1e3 * torch.randn(4, model.spec.head_size)
        block.values[:, :, 8:12] = 1e3
    got = model.lm.decode_step(fed, cache.branch(1, 4), left_out=[[2]])
    assert torch.equal(got.logits, want.logits)


@pytest.mark.parametrize("action", [DENSE, SPARSE], ids=["dense", "sparse"])
def test_rows_of_a_shared_prefix_leave_out_pages_of_their_own(model, action):
    """A row that leaves none out has the numbers that it has alone, in several parts too."""
    cache, tokens = prefilled(model, 8, 2 * PROMPT)
    fed, step = torch.tensor([tokens[-1]]), {"mechanisms": GRIDS["default"].mechanisms}
    each = [[], [0], [2, 4]]
    rows = model.lm.decode_step(
        fed.repeat(3),
        cache.branch(3, 4),
        action,
        left_out=each,
        observe=Observe.CONCENTRATION,
        **step,
    )
    for row, pages in enumerate(each):
        left_out = [pages] if pages else None
        alone = model.lm.decode_step(fed, cache.branch(1, 4), action, left_out=left_out, **step)
        assert torch.equal(rows.logits[row], alone.logits[0])


@pytest.mark.parametrize("page", [-1, 10_000])
def test_a_page_that_is_not_there_is_refused(model, page):
    cache, tokens = prefilled(model)
    with pytest.raises(ShapeError, match=r"can leave out pages 0 to \d+, got"):
        model.lm.decode_step(torch.tensor([tokens[-1]]), cache, left_out=[[page]])


STATIC = ScheduleConfig("static", Budget(0.5, 1.0, 16.0))


def test_effects_of_pages_one_by_one_and_together(model):
    run, events = made(model, PROMPT, schedule=STATIC)
    lens = Lens(model, run)
    first = lens.page_effects(6, most=3)
    assert (len(first.effects), first.correlation) == (3, None)
    whole = lens.page_effects(6, most=100)
    assert len(whole.effects) == whole.count == (run.before + 6) // 4
    assert whole.effects[:3] == first.effects
    assert [effect.pages for effect in whole.effects] == [(page,) for page in range(whole.count)]
    assert 0 < sum(whole.attention) < 1
    assert -1 <= whole.correlation <= 1
    for effect in whole.effects:
        (alone,) = lens.without(6, [effect.pages])
        assert (alone.kl, alone.nll) == (effect.kl, effect.nll)
        assert effect.nll_change == effect.nll - events[6].surprisal
    (both,) = lens.without(6, [(1, 2)])
    assert both.pages == (1, 2)
    assert lens.look(6, without=(1, 2)).without == both
    assert lens.look(6).without is None
    with pytest.raises(ConfigError, match="can be decoded without pages 0 to"):
        lens.without(6, [(whole.count,)])


def test_a_page_that_was_not_read_changes_nothing(model):
    run, _ = made(model, PROMPT, schedule=ScheduleConfig("static", Budget(0.1, 1.0, 16.0)))
    kls = np.array([effect.kl for effect in Lens(model, run).page_effects(4).effects])
    assert (kls == 0).any()
    assert (kls > 1e-3).any()


@pytest.mark.parametrize("side", [(), (SideRowConfig("dense", ScheduleConfig("dense")),)])
def test_a_generation_without_a_page_is_replayed_without_it(model, side):
    options = {"schedule": STATIC, "page_reads": True, "side_rows": side}
    run, events = made(model, PROMPT, left_out=(1, 2), **options)
    for event in events:
        assert all(1 not in layer and 2 not in layer for layer in event.page_reads.lists(2))
    look = Lens(model, run).look(5)
    assert look.replayed.nll == events[5].surprisal
    assert look.replayed.kl_to_dense == events[5].kl_to_dense
    assert configured(left_out=(1, 2), **options).to_dict()["left_out"] == (1, 2)
    assert "left_out" not in configured(**options).to_dict()
    _, plain = made(model, PROMPT, **options)
    assert [e.surprisal for e in plain] != [e.surprisal for e in events]


def test_the_full_model_beside_reads_the_pages_that_a_run_leaves_out(model):
    full = ScheduleConfig("static", Budget(1.0, 1.0, 16.0))
    whole, _ = made(model, PROMPT, schedule=full)
    (effect,) = Lens(model, whole).without(0, [(1, 2)])
    beside = (SideRowConfig("dense", ScheduleConfig("dense")),)
    _, events = made(model, PROMPT, schedule=full, side_rows=beside, left_out=(1, 2))
    assert events[0].kl_to_dense == pytest.approx(effect.kl, rel=1e-3)
    assert effect.kl > 1e-3


def test_a_generation_cannot_leave_out_the_page_of_its_last_token(model):
    count = (len(encode_prompt(model, PROMPT, chat=False)) - 1) // 4
    with pytest.raises(ConfigError, match=f"pages 0 to {count - 1} can be left out, got {count}"):
        made(model, PROMPT, left_out=(count,))
    events = list(generate(model, PROMPT, configured(left_out=(count - 1,))))
    assert isinstance(events[0], PrefillEvent)
    assert isinstance(events[-1], FinishEvent)
