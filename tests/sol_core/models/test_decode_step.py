"""Invariants of the compressed decode step and of the KV cache."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sol_core.actions import DENSE, GRIDS, MLP_PRUNERS, PAGE_SCORERS, Action, Mechanisms
from sol_core.errors import ConfigError, ContextLengthError, ShapeError
from sol_core.models import FrozenLM
from sol_core.models.signals import Observe
from tests.support.tiny_models import make_tiny_lm

ALL = Observe.CONCENTRATION

SPARSE = Action(0.3, 0.5, 6)
actions = st.builds(
    Action,
    st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0]),
    st.sampled_from([0.4, 0.65, 1.0]),
    st.integers(2, 16),
)


@pytest.fixture(scope="module")
def lm() -> FrozenLM:
    return make_tiny_lm()


def _prompt(length: int, rows: int = 1, seed: int = 1) -> torch.Tensor:
    return torch.randint(3, 199, (rows, length), generator=torch.Generator().manual_seed(seed))


def test_dense_action_equals_the_plain_model_bit_for_bit(lm: FrozenLM) -> None:
    tokens = _prompt(30)
    plain, dense = lm.new_cache(1, 40), lm.new_cache(1, 40)
    for cache in (plain, dense):
        lm.prefill(tokens, cache)
    for token in (5, 9, 11):
        expected = lm.decode_step(torch.tensor([token]), plain)
        found = lm.decode_step(torch.tensor([token]), dense, [Action(1.0, 1.0, 16)])
        assert torch.equal(found.logits, expected.logits)


@given(others=st.lists(actions, min_size=2, max_size=2))
@settings(max_examples=25)
def test_a_dense_row_does_not_feel_its_neighbours(others: list[Action]) -> None:
    lm = make_tiny_lm()
    prefix = lm.new_cache(1, 21)
    lm.prefill(_prompt(21), prefix)
    token = torch.tensor([7, 7, 7])
    alone = lm.decode_step(token, prefix.branch(3, 1), DENSE)
    mixed = lm.decode_step(token, prefix.branch(3, 1), [DENSE, *others])
    assert torch.equal(mixed.logits[0], alone.logits[0])


@pytest.mark.parametrize("rows", [1, 5, 17])
@pytest.mark.parametrize("grid", GRIDS)
def test_what_no_kernel_serves_is_computed_from_its_declaration(
    grid: str, rows: int, lm: FrozenLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = GRIDS[grid].mechanisms
    scorer = replace(how.scorer, name="slow", cpu_choice=None, gpu_choice=None)
    monkeypatch.setitem(PAGE_SCORERS, "slow", scorer)
    pruner = replace(how.pruner, name="slow", fused=False)
    monkeypatch.setitem(MLP_PRUNERS, "slow", pruner)
    prefix = lm.new_cache(1, 50)
    lm.prefill(_prompt(50), prefix)

    def logits(how: Mechanisms) -> torch.Tensor:
        cache, token = prefix.branch(rows, 2), torch.full((rows,), 5)
        for _ in range(2):
            found = lm.decode_step(token, cache, Action(0.3, 0.5), mechanisms=how, observe=ALL)
        return found.logits

    slow = replace(how, page_scorer="slow", mlp_pruning="slow")
    torch.testing.assert_close(logits(slow), logits(how), rtol=1e-3, atol=1e-3)


def test_a_compressed_step_leaves_no_trace(lm: FrozenLM) -> None:
    tokens = _prompt(33)
    before = lm.new_cache(1, 40)
    expected = lm.prefill(tokens, before)
    expected_step = lm.decode_step(torch.tensor([4]), before)
    for _ in range(3):
        lm.decode_step(torch.tensor([4]), before, SPARSE)
    after = lm.new_cache(1, 40)
    assert torch.equal(lm.prefill(tokens, after), expected)
    assert torch.equal(lm.decode_step(torch.tensor([4]), after).logits, expected_step.logits)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 31])
@pytest.mark.parametrize("site", ["mlp_output", "mlp_input"])
def test_sharing_a_prefix_changes_nothing(lm: FrozenLM, length: int, site: str) -> None:
    """Rows on a shared prefix equal the same rows on caches of their own."""
    prefix = lm.new_cache(1, length)
    lm.prefill(_prompt(length), prefix)
    shared = prefix.branch(3, 12)
    own = [prefix.branch(1, 12) for _ in range(3)]
    rows = [DENSE, SPARSE, Action(0.5, 1.0, 16)]
    for step in range(12):
        token = torch.full((3,), 5 + step)
        together = lm.decode_step(
            token, shared, rows, mechanisms=Mechanisms(quant_site=site)
        ).logits
        for row, cache in enumerate(own):
            alone = lm.decode_step(
                token[:1], cache, rows[row], mechanisms=Mechanisms(quant_site=site)
            ).logits
            torch.testing.assert_close(together[row], alone[0], rtol=0, atol=2e-4)


def test_rows_of_several_sequences_and_lengths(lm: FrozenLM) -> None:
    """A ragged batch of sequences, each with several rows, equals one sequence at a time."""
    lengths = [19, 8, 3]
    tokens = _prompt(19, rows=3)
    prefix = lm.new_cache(3, 19)
    lm.prefill(tokens, prefix, lengths)
    together = prefix.branch(2, 10)
    rows = [DENSE, SPARSE] * 3
    alone = []
    for sequence, length in enumerate(lengths):
        single = lm.new_cache(1, length)
        lm.prefill(tokens[sequence : sequence + 1, :length], single)
        alone.append(single.branch(2, 10))
    for step in range(10):
        fed = torch.tensor([11 + step, 50 + step, 90 + step]).repeat_interleave(2)
        found = lm.decode_step(fed, together, rows).logits
        for sequence, cache in enumerate(alone):
            part = slice(2 * sequence, 2 * sequence + 2)
            expected = lm.decode_step(fed[part], cache, rows[part]).logits
            torch.testing.assert_close(found[part], expected, rtol=0, atol=2e-4)


def test_branching_before_the_end_equals_a_shorter_prefill(lm: FrozenLM) -> None:
    tokens = _prompt(30)
    long, short = lm.new_cache(1, 30), lm.new_cache(1, 13)
    lm.prefill(tokens, long)
    lm.prefill(tokens[:, :13], short)
    for group in (1, 4):
        first, second = long.branch(group, 4, lengths=[13]), short.branch(group, 4)
        token = torch.full((group,), 8)
        found = lm.decode_step(token, first, SPARSE).logits
        torch.testing.assert_close(found, lm.decode_step(token, second, SPARSE).logits)


def test_an_empty_prefix_can_be_decoded(lm: FrozenLM) -> None:
    cache = lm.new_cache(1, 8)
    whole = lm.new_cache(1, 8)
    hidden = lm.prefill(_prompt(3), whole)
    for position in range(3):
        output = lm.decode_step(_prompt(3)[:, position], cache)
    torch.testing.assert_close(output.logits, lm.logits(hidden[:, -1]), rtol=0, atol=1e-4)


def test_incremental_page_bounds_equal_fresh_ones(lm: FrozenLM) -> None:
    prefix = lm.new_cache(1, 13)
    lm.prefill(_prompt(13), prefix)
    cache = prefix.branch(2, 20)
    for step in range(20):
        action = SPARSE if step % 3 == 0 else DENSE  # bounds lag behind over dense steps
        lm.decode_step(torch.tensor([step + 3, step + 9]), cache, action)
    for layer in range(lm.spec.num_layers):
        for block in cache.blocks(layer, 0, read="bounds"):
            size = block.keys.shape[2]
            for page in range(block.page_min.shape[2]):
                keys = block.keys[:, :, page * 8 : min(size, page * 8 + 8)]
                assert torch.equal(block.page_min[:, :, page], keys.amin(2))
                assert torch.equal(block.page_max[:, :, page], keys.amax(2))


def test_less_is_kept_as_the_fraction_falls(lm: FrozenLM) -> None:
    """The KL to dense of one step grows, on average, as each axis is squeezed."""
    prefix = lm.new_cache(1, 64)
    lm.prefill(_prompt(64), prefix)

    def divergence(action: Action) -> float:
        total = 0.0
        for token in range(3, 40, 4):
            cache = prefix.branch(2, 1)
            logits = lm.decode_step(torch.tensor([token, token]), cache, [DENSE, action]).logits
            dense, sparse = torch.log_softmax(logits, -1)
            total += float((dense.exp() * (dense - sparse)).sum())
        return total

    for levels in (
        [Action(k, 1.0, 16) for k in (1.0, 0.7, 0.2)],
        [Action(1.0, r, 16) for r in (1.0, 0.7, 0.3)],
        [Action(1.0, 1.0, b) for b in (16, 6, 3)],
    ):
        damages = [divergence(level) for level in levels]
        assert damages[0] == pytest.approx(0.0, abs=1e-6)
        assert damages[0] < damages[1] < damages[2]


def test_bad_arguments_are_named(lm: FrozenLM) -> None:
    cache = lm.new_cache(2, 8)
    with pytest.raises(ShapeError, match=r"tokens \[2\]"):
        lm.decode_step(torch.tensor([1]), cache)
    with pytest.raises(ShapeError, match="actions"):
        lm.decode_step(torch.tensor([1, 1]), cache, [DENSE])
    with pytest.raises(ConfigError, match="quant_site"):
        Mechanisms(quant_site="mlp")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="prefill"):
        lm.prefill(_prompt(4), cache)
    with pytest.raises(ContextLengthError, match="256"):
        lm.prefill(_prompt(300, rows=2), cache)
    with pytest.raises(ContextLengthError, match="KV cache holds 8"):
        lm.prefill(_prompt(9, rows=2), cache)


@pytest.mark.parametrize("how", [grid.mechanisms for grid in GRIDS.values()], ids=list(GRIDS))
def test_page_readers_are_counted_beside_a_step_that_they_do_not_change(
    lm: FrozenLM, how: Mechanisms
) -> None:
    """Of 41 tokens, 6 pages: all heads read all where all is kept; where 3 pages are, between 3
    and, if every head chose others, all of them."""
    prefix = lm.new_cache(1, 40)
    lm.prefill(_prompt(40), prefix)
    fed, actions = torch.tensor([5, 5]), [DENSE, Action(0.5, 1.0)]
    plain = lm.decode_step(fed, prefix.branch(2, 1), actions, mechanisms=how)
    watched = lm.decode_step(fed, prefix.branch(2, 1), actions, mechanisms=how, page_reads=True)
    assert plain.page_readers is None
    assert torch.equal(plain.logits, watched.logits)
    readers = watched.page_readers
    assert readers is not None
    assert readers.shape == (2, lm.spec.num_layers, 6)
    heads = lm.spec.num_kv_heads
    assert (readers[0] == heads).all()
    read = readers[1].sum(-1).tolist()
    if how.page_budget == "need":
        assert all(heads <= total <= 6 * heads for total in read)
    elif how.page_choice == "group":
        assert set(read) == {3 * heads}
    else:
        assert all(3 * heads <= total < 6 * heads for total in read)
    tokens = torch.tensor([8, 8, 8, 8, 8, 1])
    assert torch.equal((readers * tokens).sum(-1), watched.tokens_read)
    assert torch.equal(plain.tokens_read, watched.tokens_read)
