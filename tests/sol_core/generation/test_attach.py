"""A model of transformers that generates under a schedule, and is as before afterwards."""

import pytest
import torch

from sol_core import Action, Budget, GenerationConfig, Spend, attach, from_transformers, generate
from sol_core.errors import ConfigError, PolicyError
from sol_core.policy.policy import load_policy
from tests.support.tiny_language_model import byte_tokenizer
from tests.support.tiny_models import FAMILIES, Family, make_pair
from tests.support.tiny_policies import save_tiny_policy

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = "Once upon a time there was a fox."
BUDGET = Budget(0.5, 0.7, 8)
ON = GenerationConfig(ignore_end_of_text=True)


@pytest.fixture(scope="module")
def theirs():
    model, _ = make_pair(Family("llama", "Llama", {"vocab_size": 257}))
    model.generation_config.eos_token_id = None
    return model


@pytest.fixture(scope="module")
def ours(theirs):
    return from_transformers(theirs, byte_tokenizer(), name="tiny")


@pytest.fixture(autouse=True)
def _leaves_no_trace(theirs):
    """Whatever happens in a block, the model is the same to the last bit after it."""
    members, weights = dict(vars(theirs)), {k: v.clone() for k, v in theirs.state_dict().items()}
    before = _greedy(theirs)
    yield
    assert dict(vars(theirs)) == members
    assert all(torch.equal(v, weights[k]) for k, v in theirs.state_dict().items())
    assert torch.equal(_greedy(theirs), before)


def _ids(text=TEXT):
    return torch.tensor([byte_tokenizer()(text)["input_ids"]])


def _greedy(model, text=TEXT, count=12, **options):
    ids = _ids(text)
    mask = torch.ones_like(ids)
    made = model.generate(
        ids, attention_mask=mask, max_new_tokens=count, do_sample=False, **options
    )
    return made[0, ids.shape[1] :]


def _alternating(observation):
    return Action() if observation.step % 3 == 0 else Action(0.3, 0.5, 6)


@pytest.mark.parametrize("cached", [True, False])
def test_it_gives_what_generate_gives(theirs, ours, cached):
    made = generate(ours, TEXT, _alternating, max_new_tokens=12, config=ON)
    with attach(theirs, _alternating) as spent:
        found = _greedy(theirs, use_cache=cached)
    assert found.tolist() == [token.token_id for token in made.tokens]
    assert spent.actions == [token.action for token in made.tokens]
    assert spent.spend == made.spend


def test_a_policy_and_a_budget_alone(theirs, ours, tmp_path):
    policy = load_policy(save_tiny_policy(ours, tmp_path / "tiny"), ours)
    for chosen in (policy, None):
        made = generate(ours, TEXT, chosen, BUDGET, max_new_tokens=10, config=ON)
        with attach(theirs, chosen, BUDGET) as spent:
            found = _greedy(theirs, count=10)
        assert found.tolist() == [token.token_id for token in made.tokens]
        assert spent.actions == [token.action for token in made.tokens]


def test_generations_in_one_block_begin_anew(theirs, ours):
    texts = (TEXT, TEXT, TEXT + " It", "x")
    with attach(theirs, _alternating) as spent:
        found = [_greedy(theirs, text, 6).tolist() for text in texts]
        with attach(theirs) as inner:
            _greedy(theirs, count=5)
    for text, tokens in zip(texts, found, strict=True):
        made = generate(ours, text, _alternating, max_new_tokens=6, config=ON)
        assert tokens == [token.token_id for token in made.tokens]
    assert (len(spent.actions), len(inner.actions)) == (24, 5)


def test_sampling_is_transformers_own(theirs):
    ids = _ids()
    options = {"attention_mask": torch.ones_like(ids), "do_sample": True, "max_new_tokens": 9}
    torch.manual_seed(3)
    alone = theirs.generate(ids, **options)
    with attach(theirs) as spent:
        torch.manual_seed(3)
        assert torch.equal(theirs.generate(ids, **options), alone)
    assert spent.spend == Spend(bytes_share=1.0), "dense"


def test_logits_have_the_shape_and_numbers_that_transformers_gives(theirs):
    ids = _ids()
    wishes = [{}, {"logits_to_keep": 1}, {"logits_to_keep": 5}]
    wishes += [{"logits_to_keep": torch.tensor([0, 3])}, {"use_cache": False}]
    with torch.no_grad():
        expected = [theirs(ids, **wish).logits for wish in wishes]
        expected += [theirs(ids[:, :1]).logits]
    with attach(theirs):
        found = [theirs(ids, **wish).logits for wish in wishes] + [theirs(ids[:, :1]).logits]
        for wish in ({"labels": ids}, {"output_hidden_states": True}, {"output_attentions": True}):
            with pytest.raises(ConfigError, match=f"gives logits, no {next(iter(wish))}"):
                theirs(ids, **wish)
        with pytest.raises(ConfigError, match="leave return_dict out"):
            theirs(ids, return_dict=False)
    for ours, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, wanted, atol=2e-4, rtol=1e-4)


def test_a_class_is_made_for_every_generation(theirs):
    class Counting:
        def __init__(self, budget):
            self.budget, self.steps = budget, 0

        def __call__(self, observation):
            self.steps += 1
            return Action() if self.steps == 1 else Action(self.budget.keep_fraction, 0.5, 8)

    with attach(theirs, Counting, BUDGET) as spent:
        for _ in range(2):
            _greedy(theirs, count=3)
    assert spent.actions == [Action(), Action(0.5, 0.5, 8), Action(0.5, 0.5, 8)] * 2


def test_what_it_cannot_do_is_refused(theirs, ours, tmp_path):
    ids = _ids()
    with attach(theirs, max_new_tokens=4):
        with pytest.raises(ConfigError, match="one sequence"):
            theirs.generate(ids.repeat(2, 1), max_new_tokens=3)
        with pytest.raises(ConfigError, match="one sequence"):
            theirs.generate(ids, num_beams=2, max_new_tokens=3)
        mask = torch.ones_like(ids)
        mask[0, 0] = 0
        with pytest.raises(ConfigError, match="padding"):
            theirs.generate(ids, attention_mask=mask, max_new_tokens=3)
        with pytest.raises(ConfigError, match="more than 4 new tokens"):
            _greedy(theirs, count=5)
        assert len(_greedy(theirs, count=4)) == 4
    policy = load_policy(save_tiny_policy(ours, tmp_path / "tiny"), ours)
    for words, given in (
        ("needs a budget", (policy,)),
        ("policy must be a Policy", ("default", BUDGET)),
        ("leave the budget", (_alternating, BUDGET)),
        ("outside the grid", (None, Budget(0.01))),
    ):
        with pytest.raises(ConfigError, match=words), attach(theirs, *given):
            pass
    other, _ = make_pair(FAMILIES[0])
    with pytest.raises(PolicyError, match="not for this model"), attach(other, policy, BUDGET):
        pass
