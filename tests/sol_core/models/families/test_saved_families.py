"""Saved random models of every family, loaded from their folders, against transformers; and the
short ends of contexts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from sol_core.actions import GRIDS, Action
from sol_core.errors import ContextLengthError
from sol_core.models import spec_from_config
from sol_core.models.loading import fingerprint_of, load_language_model
from tests.support.tiny_language_model import save_model_folder
from tests.support.tiny_models import FAMILIES, Family, make_pair

PROMPT, STEPS = 23, 20


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_a_saved_model_decodes_as_transformers_does(tmp_path: Path, name: str) -> None:
    folder = save_model_folder(tmp_path / "model", name, starts=False)
    family = next(one for one in FAMILIES if one.name == name)
    theirs = family.model.from_pretrained(folder, attn_implementation="eager").eval()
    lm = load_language_model(str(folder), data_dir=tmp_path, dtype="float32", device="cpu").lm
    tokens = torch.randint(3, 250, (1, PROMPT + STEPS))
    with torch.no_grad():
        expected = theirs(tokens).logits
    cache = lm.new_cache(1, PROMPT + STEPS)
    found = [lm.logits(lm.prefill(tokens[:, :PROMPT], cache))[0]]
    found += [lm.decode_step(token, cache).logits for token in tokens[0, PROMPT:, None]]
    torch.testing.assert_close(torch.cat(found), expected[0], rtol=0, atol=1e-4)


# Just below a level of 1 a count keeps every page; pages by need have no such level.
@pytest.mark.parametrize("grid", ["paper", "default"])
@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_a_smaller_budget_changes_a_step_and_nothing_kept_is_dense(name: str, grid: str) -> None:
    """A fifth of the pages, half the channels, 5 bits; and a step that keeps all but by a hair (of
    a window, whole pages are kept, and it may begin within one)."""
    _, lm = make_pair(next(one for one in FAMILIES if one.name == name))
    prefix, token = lm.new_cache(1, 40), torch.tensor([7])
    lm.prefill(torch.arange(3, 43)[None], prefix)

    def logits(action: Action) -> torch.Tensor:
        how = GRIDS[grid].mechanisms
        return lm.decode_step(token, prefix.branch(1, 1), action, mechanisms=how).logits

    dense = logits(Action())
    hair = 1.0 if any(lm.spec.windows) else 0.999
    torch.testing.assert_close(logits(Action(hair, 0.999)), dense, rtol=0, atol=1e-4)
    for action in (Action(0.2), Action(1.0, 0.5), Action(1.0, 1.0, 5)):
        assert (logits(action) - dense).abs().max() > 1e-3, action


def test_fingerprints_are_those_of_before_there_were_these_families() -> None:
    """Policies are bound to them."""
    weights = {"x": torch.arange(10.0)}
    found = [
        fingerprint_of(spec_from_config(c), weights) for c in (LlamaConfig(), Gemma3TextConfig())
    ]
    assert found == ["40c52b937b35ccf68179351e914dc25a", "451567035336adb97b190fd9cbc7d39f"]


@pytest.mark.parametrize("name", ["longrope", "dynamic-rope"])
def test_a_rope_that_changes_with_length_ends_the_context_where_it_does(name: str) -> None:
    family = next(one for one in FAMILIES if one.name == name)
    small = Family(name, family.config, family.model, family.options)
    if name == "dynamic-rope":
        small = Family(name, LlamaConfig, LlamaForCausalLM, family.options | {
            "max_position_embeddings": 64})  # fmt: skip
    theirs, lm = make_pair(small)
    assert lm.spec.max_positions == 64
    tokens, cache = torch.randint(3, 199, (1, 65)), lm.new_cache(1, 72)
    lm.prefill(tokens[:, :63], cache)
    found = lm.decode_step(tokens[:, 63], cache).logits
    with torch.no_grad():
        torch.testing.assert_close(found, theirs(tokens[:, :64]).logits[:, -1], rtol=0, atol=1e-4)
    with pytest.raises(ContextLengthError, match="65 tokens exceed the model's context of 64"):
        lm.decode_step(tokens[:, 64], cache)
