"""Several prompts: on a CPU bit for bit as alone; together, as on a GPU, each as if it were."""

import pytest

from sol_core import (
    Action,
    Budget,
    FinishEvent,
    GenerationConfig,
    PrefillEvent,
    SamplingConfig,
    ScheduleConfig,
    SideRowConfig,
    TokenEvent,
    generate,
    generate_many,
    load_policy,
)
from sol_core.errors import ConfigError
from sol_core.generation import engine
from tests.support.tiny_policies import save_tiny_policy

PROMPTS = ["Once upon a time", "A fox", "In a wood there lived " * 3, "x", "The sea was wide"]
BUDGET = Budget(0.5, 0.7, 16)
SHADOW = SideRowConfig("dense", ScheduleConfig("dense"))
# Sums of a batch of rows differ in their last bits, a surprisal by no more than this, nats; where
# activations are rounded to few bits, one may fall the other way.
ALIKE, ROUNDED = 1e-4, 0.05

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def together(monkeypatch):
    monkeypatch.setitem(engine.PROMPTS_TOGETHER, "cpu", 32)


@pytest.mark.parametrize("count", [1, 3, 8, 64])
@pytest.mark.parametrize("by_policy", [False, True])
def test_a_cpu_gives_each_prompt_bit_for_bit_what_it_gets_alone(model, tmp_path, count, by_policy):
    policy = load_policy(save_tiny_policy(model, tmp_path / "tiny"), model) if by_policy else None
    given, texts = (policy, Budget(0.5, 0.7, 8)), [f"Ship {n} went out" for n in range(count)]
    made = generate_many(model, texts, *given, max_new_tokens=16)
    for text, one in zip(texts, made, strict=True):
        alone = generate(model, text, *given, max_new_tokens=16)
        for token, other in zip(one.tokens, alone.tokens, strict=True):
            assert (token.token_id, token.action) == (other.token_id, other.action)
            assert token.surprisal == other.surprisal


def _same(made, model, *given, within=ALIKE, **options):
    """As one by one: tokens, actions, texts, reasons, costs; surprisals within some nats."""
    assert len(made) == len(PROMPTS)
    for prompt, one in zip(PROMPTS, made, strict=True):
        alone = generate(model, prompt, *given, **options)
        assert [t.token_id for t in one.tokens] == [t.token_id for t in alone.tokens], prompt
        assert [t.action for t in one.tokens] == [t.action for t in alone.tokens]
        assert [t.cached_tokens for t in one.tokens] == [t.cached_tokens for t in alone.tokens]
        assert [t.cost for t in one.tokens] == [t.cost for t in alone.tokens]
        assert (one.text, one.spend) == (alone.text, alone.spend)
        assert one.finish.reason == alone.finish.reason
        for token, other in zip(one.tokens, alone.tokens, strict=True):
            assert token.surprisal == pytest.approx(other.surprisal, abs=within)
            assert token.page_reads == other.page_reads


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("kind", ["dense", "static", "random", "emc", "dac"])
def test_every_prompt_gets_the_tokens_that_it_gets_alone(model, kind):
    options = {"config": GenerationConfig(ScheduleConfig(kind, BUDGET)), "max_new_tokens": 20}
    made = generate_many(model, PROMPTS, **options, record={"pages"})
    _same(made, model, **options, record={"pages"})
    assert len({one.text for one in made}) == len(PROMPTS)


@pytest.mark.usefixtures("together")
def test_a_policy_decides_for_all_of_them(model, tmp_path):
    policy = load_policy(save_tiny_policy(model, tmp_path / "tiny"), model)
    made = generate_many(model, PROMPTS, policy, BUDGET, max_new_tokens=12)
    _same(made, model, policy, BUDGET, max_new_tokens=12, within=ROUNDED)
    first, second = made[0].tokens[3].policy, made[1].tokens[3].policy
    assert None not in (first, second)
    assert first != second, "each has its own probabilities"


@pytest.mark.usefixtures("together")
def test_a_function_with_a_state_starts_anew_for_each(model):
    class Fading:
        keep = 1.0

        def __call__(self, observation):
            assert observation.tokens.shape == (1,)
            self.keep *= 0.8
            return Action(self.keep)

    for one in generate_many(model, PROMPTS, Fading(), max_new_tokens=4):
        kept = [token.action.keep_fraction for token in one.tokens]
        assert kept == pytest.approx([0.8, 0.64, 0.512, 0.4096])


@pytest.mark.usefixtures("together")
def test_side_rows_and_draws_are_each_prompts_own(model):
    sampling = SamplingConfig(temperature=1.0, top_p=0.9, repetition_penalty=1.2, seed=4)
    config = GenerationConfig(
        ScheduleConfig("static", BUDGET), (SHADOW,), sampling, episode_steps=4, max_new_tokens=9
    )
    made = generate_many(model, PROMPTS, config=config)
    _same(made, model, config=config)
    for prompt, one in zip(PROMPTS, made, strict=True):
        wanted = [t.kl_to_dense for t in generate(model, prompt, config=config).tokens]
        assert [t.kl_to_dense for t in one.tokens] == pytest.approx(wanted, abs=ALIKE)


@pytest.mark.usefixtures("together")
def test_one_that_ends_early_leaves_the_others_alone(model):
    long = generate_many(model, PROMPTS, max_new_tokens=16)
    stop = long[0].text[3:5]
    config = GenerationConfig(ScheduleConfig("dense"), stop_strings=(stop,), max_new_tokens=16)
    made = generate_many(model, PROMPTS, config=config)
    assert made[0].finish.reason == "stop_string"
    assert len(made[0].tokens) < 16
    assert any(one.finish.reason == "length" for one in made)
    _same(made, model, config=config)
    # One at the end of its context goes as far as it can, the others as far as they were asked.
    full = "x" * (model.context_length - 3)
    ends = generate_many(model, [full, "A fox"], max_new_tokens=8)
    assert [one.finish.reason for one in ends] == ["context_full", "length"]
    assert [len(one.tokens) for one in ends] == [3, 8]


def test_events_come_when_they_are(model, monkeypatch):
    monkeypatch.setitem(engine.PROMPTS_TOGETHER, "cpu", 2)
    config = GenerationConfig(max_new_tokens=2)
    pairs = list(engine.generate_many(model, PROMPTS, config))
    own = [[event for number, event in pairs if number == place] for place in range(len(PROMPTS))]
    kinds = [PrefillEvent, TokenEvent, TokenEvent, FinishEvent]
    assert all([type(event) for event in events] == kinds for events in own)
    assert [number for number, _ in pairs[:8]] == [0, 1, 0, 1, 0, 1, 0, 1], "two at a time"
    assert [number for number, _ in pairs[-4:]] == [3] * 4, "a single token has nothing before it"
    assert generate_many(model, []) == []


@pytest.mark.usefixtures("together")
def test_a_wish_to_stop_ends_all_of_them(model):
    seen = []
    config = GenerationConfig(ScheduleConfig("dense"))
    for pair in engine.generate_many(model, PROMPTS[:2], config, lambda: len(seen) >= 5):
        seen.append(pair)
    assert [event.reason for _, event in seen[-2:]] == ["stopped"] * 2


def test_what_cannot_be_generated_names_its_prompt(model):
    with pytest.raises(ConfigError, match=r"prompt\[1\]: the prompt is empty"):
        generate_many(model, ["fine", " "])
    with pytest.raises(ConfigError, match=r"prompts\[1\] must be text, got 3"):
        generate_many(model, ["fine", 3])
