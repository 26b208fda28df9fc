"""Models of random weights: shapes by name and by sizes, and steps that read what they should."""

import pytest
import torch

from app.bench.random_model import (
    SHAPES,
    ModelShape,
    check_shape,
    random_cache,
    random_model,
    shape_from_text,
)
from kernels.quantised_weights import unpack_blocks
from sol_core.actions import DENSE, GRIDS, Action
from sol_core.errors import ConfigError

TINY = ModelShape("tiny", 512, 128, 256, 2, 4, 2, 32)
GRID = GRIDS["default"]


def test_a_shape_has_a_name_or_every_size():
    sizes = "layers=16,hidden=1536,intermediate=6144,heads=24,kv_heads=8,head_size=64,vocab=49152"
    named = shape_from_text("0.6b")
    assert named is SHAPES["0.6B"]
    assert shape_from_text(sizes)._replace(name="0.6B") == named
    for wrong in ("0.7B", "layers=16", sizes + ",layers=2", sizes.replace("heads=24", "heads=25")):
        with pytest.raises(ConfigError, match=r"0\.6B|multiple"):
            shape_from_text(wrong)
    with pytest.raises(ConfigError, match="storage must be"):
        check_shape("0.6B", "q5")
    with pytest.raises(ConfigError, match="multiples, got 1544"):
        check_shape(sizes.replace("1536", "1544"), "q4")
    check_shape(sizes.replace("1536", "1544"), "bf16")


def test_the_weights_are_those_of_the_blocks_and_of_ordinary_size():
    lm = random_model(TINY, 64, storage="q4")
    for linear in lm.weights.matrices():
        unpacked = unpack_blocks(linear.blocks)
        assert torch.equal(linear.weight, unpacked.t().bfloat16())
        assert abs(unpacked.mean()) < 1e-3
        assert unpacked.std() == pytest.approx(0.02, rel=0.1)
    assert lm.weights.head.blocks.kind == "Q8_0"


@pytest.mark.parametrize("storage", ["bf16", "fp32", "q4"])
def test_steps_decode_after_a_random_context(storage):
    lm = random_model(TINY, 64, storage=storage)
    cache = random_cache(lm, 40, 2)
    for action in (DENSE, Action(0.5, 0.5)):
        output = lm.decode_step(torch.tensor([1]), cache, action, mechanisms=GRID.mechanisms)
        assert bool(output.logits.isfinite().all())
    assert cache.own_lengths == [42]
