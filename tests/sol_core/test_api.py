"""The library's names, on a tiny model: the same decode loop, the same numbers as the engine."""

import dataclasses
import signal

import pytest
import torch
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

import sol_core
from sol_core.errors import ConfigError, ContextLengthError, PolicyError
from sol_core.files.paths import DATA_DIR_VARIABLE
from sol_core.generation.engine import generate as engine_generate
from sol_core.generation.scoring import dense_nll
from sol_core.progress import WorkProgress, WorkStopped, shown_progress
from sol_core.training.checkpoint import read_checkpoint
from sol_core.training.config import GrpoConfig, WarmStartConfig
from tests.support.tiny_policies import save_tiny_policy
from tests.support.tiny_training import tiny_train_config

BUDGET = sol_core.Budget(0.5, 0.7, 8)
TEXT = "Once upon a time there was a fox who lived in a wood and ate berries all day long. "

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def policy(model, tmp_path):
    return sol_core.load_policy(save_tiny_policy(model, tmp_path / "tiny"), model)


def test_a_budget_alone_is_static(model):
    made = sol_core.generate(model, TEXT, max_new_tokens=5)
    assert len(made.tokens) == 5
    assert made.spend == sol_core.Spend(bytes_share=1.0)
    config = sol_core.GenerationConfig(sol_core.ScheduleConfig("dense"), max_new_tokens=5)
    *_, last = engine_generate(model, TEXT, config)
    assert isinstance(last, sol_core.FinishEvent)
    assert made.text == last.text
    made = sol_core.generate(model, TEXT, budget=BUDGET, max_new_tokens=16)
    assert made.spend.as_tuple() == pytest.approx(BUDGET.as_tuple(), abs=0.05)


def test_a_policy_is_its_folder(model, policy, tmp_path):
    made = sol_core.generate(model, TEXT, policy, BUDGET, max_new_tokens=8)
    schedule = sol_core.ScheduleConfig("policy", BUDGET, policy=str(tmp_path / "tiny"))
    config = sol_core.GenerationConfig(schedule, grid=policy.info.grid, max_new_tokens=8)
    events = engine_generate(model, TEXT, config)
    tokens = [event for event in events if isinstance(event, sol_core.TokenEvent)]
    assert [t.action for t in made.tokens] == [t.action for t in tokens]
    assert [t.token_id for t in made.tokens] == [t.token_id for t in tokens]
    assert made.tokens[0].policy is not None


def test_the_configuration_decides_the_rest(model, policy):
    config = sol_core.GenerationConfig(
        sampling=sol_core.SamplingConfig(temperature=1.0, seed=3), max_new_tokens=6
    )
    first = sol_core.generate(model, TEXT, policy, BUDGET, config=config)
    assert len(first.tokens) == 6
    assert sol_core.generate(model, TEXT, policy, BUDGET, config=config).text == first.text
    scheduled = dataclasses.replace(config, schedule=sol_core.ScheduleConfig("random", BUDGET))
    assert sol_core.generate(model, TEXT, config=scheduled).spend.bytes_share < 1
    assert len(sol_core.generate(model, TEXT, config=config, max_new_tokens=2).tokens) == 2


def test_a_function_of_ones_own_takes_a_policys_place(model):
    seen = []

    def spend_where_it_surprises(observation):
        seen.append(observation)
        return sol_core.Action(1.0 if observation.surprisal.item() > 5.5 else 0.3, 0.5, 8)

    made = sol_core.generate(model, TEXT, spend_where_it_surprises, max_new_tokens=9)
    assert [one.step for one in seen] == list(range(9))
    first = seen[0]
    assert first.hidden.shape == (1, model.spec.hidden_size)
    assert first.concentration is not None
    wanted = [spend_where_it_surprises(one) for one in seen[:9]]
    assert [token.action for token in made.tokens] == wanted
    assert len(set(wanted)) == 2
    assert made.tokens[0].policy is None
    scored = sol_core.score(model, TEXT[16:], spend_where_it_surprises, context=TEXT[:16])
    assert {action.bit_width for action in scored.actions} == {8}


def test_a_schedule_of_ones_own_must_return_an_action(model):
    with pytest.raises(ConfigError, match="must return an Action, got a float"):
        sol_core.generate(model, TEXT, lambda observation: 0.5, max_new_tokens=2)
    with pytest.raises(ConfigError, match="leave the budget out"):
        sol_core.generate(model, TEXT, lambda observation: sol_core.Action(), BUDGET)
    with pytest.raises(ConfigError, match="or a class of them, got a type"):
        sol_core.generate(model, TEXT, sol_core.Action)


def test_what_cannot_be_generated_is_said_first(model, policy):
    with pytest.raises(ConfigError, match="a policy needs a budget"):
        sol_core.stream_generate(model, TEXT, policy)
    with pytest.raises(ConfigError, match=r"whole number from 1 .* got 1\.5"):
        sol_core.stream_generate(model, TEXT, max_new_tokens=1.5)
    with pytest.raises(ConfigError, match="outside the grid"):
        sol_core.stream_generate(model, TEXT, policy, sol_core.Budget(0.01, 0.7, 8))
    other = dataclasses.replace(model, fingerprint="f" * 32)
    with pytest.raises(PolicyError, match="not for this model"):
        sol_core.stream_generate(other, TEXT, policy, BUDGET)


@pytest.mark.parametrize(
    "wrong", [["a", "list"], 3, torch.ones(3)], ids=lambda one: type(one).__name__
)
def test_arguments_of_another_kind_are_refused_in_words(model, policy, tmp_path, wrong):
    calls = {
        "name": lambda: sol_core.load_model(wrong),
        "name must be a policy's": lambda: sol_core.load_policy(wrong, model),
        "model": lambda: sol_core.generate(wrong, TEXT),
        "prompt": lambda: sol_core.generate(model, [wrong] if isinstance(wrong, list) else wrong),
        "logits_processors": lambda: sol_core.generate(model, TEXT, logits_processors=[wrong]),
        "record": lambda: sol_core.generate(
            model, TEXT, record=3 if isinstance(wrong, list) else wrong
        ),
        "policy": lambda: sol_core.generate(model, TEXT, wrong, BUDGET),
        "budget": lambda: sol_core.generate(model, TEXT, policy, wrong),
        "config must be a Gen": lambda: sol_core.generate(model, TEXT, config=wrong),
        "text": lambda: sol_core.score(model, wrong),
        "context": lambda: sol_core.score(model, TEXT, context=wrong),
        "folder": lambda: sol_core.train(model, wrong),
        "config must be a Train": lambda: sol_core.train(model, tmp_path, wrong),
        "preset must be": lambda: sol_core.preset(wrong),
        "config must be an Eval": lambda: sol_core.evaluate(model, policy, wrong),
        "policy must be a Policy": lambda: sol_core.evaluate(model, wrong),
        "data_dir": lambda: sol_core.load_policy("default", model, data_dir=wrong),
        "model must be a LanguageModel": lambda: sol_core.load_policy("default", wrong),
    }
    for words, call in calls.items():
        with pytest.raises(ConfigError, match=f"^{words}.*got (an? |3)"):
            call()


def test_a_dense_score_is_the_model_s_own(model):
    ids = model.tokenizer(TEXT)["input_ids"]
    whole = sol_core.score(model, TEXT)
    assert list(whole.token_ids) == ids[1:], "nothing predicts the first token"
    assert list(whole.nll) == dense_nll(model, ids, 1)
    assert whole.mean_nll == pytest.approx(sum(whole.nll) / len(whole.nll))
    assert whole.perplexity > 1
    assert whole.spend == sol_core.Spend(bytes_share=1.0)
    rest = sol_core.score(model, TEXT[20:], context=TEXT[:20])
    assert rest.nll == pytest.approx(whole.nll[19:], abs=1e-4)


def test_a_score_costs_what_was_asked(model, policy):
    static = sol_core.score(model, TEXT[16:], budget=BUDGET, context=TEXT[:16])
    assert static.spend.as_tuple() == pytest.approx(BUDGET.as_tuple(), abs=0.05)
    chosen = sol_core.score(model, TEXT[16:], policy, BUDGET, context=TEXT[:16])
    assert len(chosen.actions) == len(chosen.nll) == len(chosen.token_ids) == len(TEXT) - 16
    assert len(set(chosen.actions)) > 1
    assert chosen.nll != static.nll


def test_what_cannot_be_scored(model):
    for text, context in (("", ""), ("x", ""), ("", "context")):
        with pytest.raises(ConfigError, match="no token that others come before"):
            sol_core.score(model, text, context=context)
    assert len(sol_core.score(model, "x", context="y").nll) == 1
    with pytest.raises(ContextLengthError):
        sol_core.score(model, "x" * 300)


def test_spend_has_its_share_of_the_bytes_and_is_no_request(model, policy):
    for chosen in (None, policy):
        made = sol_core.generate(model, TEXT, chosen, BUDGET, max_new_tokens=6)
        read = sum(token.cost.bytes_read for token in made.tokens)
        whole = sum(token.dense_cost.bytes_read for token in made.tokens)
        assert made.spend.bytes_share == pytest.approx(read / whole)
        assert 0 < made.spend.bytes_share < 1
    ids = model.tokenizer(TEXT)["input_ids"]
    scored = sol_core.score(model, TEXT, None, BUDGET)
    assert len(scored.costs) == len(scored.dense_costs) == len(scored.nll) == len(ids) - 1
    assert scored.spend.bytes_share == scored.cost.bytes_read / scored.dense_cost.bytes_read
    actions = sol_core.inspect(model, TEXT, "static", BUDGET)
    static = actions.end.rows[1]
    assert static.spend.as_tuple() == pytest.approx(scored.spend.as_tuple())
    assert static.spend.bytes_share == pytest.approx(scored.spend.bytes_share), "scored alike"
    assert [token.rows[1].cost for token in actions.tokens] == list(scored.costs)
    assert "% of the bytes" in scored.spend.words
    for call in (sol_core.generate, sol_core.score):
        with pytest.raises(ConfigError, match=r"ask for one of them, Budget\(\*spend.as_tuple"):
            call(model, TEXT, None, made.spend)
    with pytest.raises(ConfigError, match="ask for one of them"):
        sol_core.EvaluationConfig(budgets=[made.spend])


def test_a_policy_is_trained_evaluated_and_used(model, tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "data"))
    config = tiny_train_config(
        tmp_path,
        warm_start=WarmStartConfig(texts=2),
        grpo=GrpoConfig(updates=1, rollouts=2, windows=1),
    )
    events = []
    shown = []
    options = {"on_progress": lambda *told: shown.append(told)}
    kept = {"allow_untrained": True, "on_event": events.append}
    policy = sol_core.train(model, tmp_path / "run", config, **kept, **options)
    assert isinstance(policy, sol_core.Policy)
    assert type(events[-1]).__name__ == "WorkFinished"
    assert {message for message, _ in shown} >= {"labelling", "calibrating"}
    assert sol_core.load_policy(tmp_path / "run" / "policy", model).info == policy.info
    asked = sol_core.EvaluationConfig(
        config.corpus, (BUDGET,), ("static",), texts=2, context=16, steps=4
    )
    measured = sol_core.evaluate(model, policy, asked, **options)
    assert measured["policy"] == (policy.info.name or "policy")
    assert {"run", "static", "dense"} <= set(measured["budgets"][0]["methods"])
    with pytest.raises(ConfigError, match="preset must be one of"):
        sol_core.train(model, tmp_path / "other", "no such preset")


def test_ctrl_c_in_a_training_keeps_a_checkpoint_and_says_how_to_go_on(
    model, tmp_path, monkeypatch
):
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "data"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    phases = {"warm_start": WarmStartConfig(texts=4), "grpo": GrpoConfig(updates=0)}
    config = tiny_train_config(tmp_path, **phases)
    options = {"allow_untrained": True, "on_progress": lambda *_: None}
    events = []

    def press(event):
        events.append(event)
        if isinstance(event, WorkProgress) and event.message == "labelling":
            signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt, match=r"kept in .*run; the same call goes on"):
            sol_core.train(model, tmp_path / "run", config, on_event=press, **options)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert isinstance(events[-1], WorkStopped)
    assert read_checkpoint(tmp_path / "run", config.to_dict()) is not None
    again = sol_core.train(model, tmp_path / "run", config, **options)
    assert isinstance(again, sol_core.Policy)


def test_progress_is_a_bar_unless_bars_are_off(capsys):
    for hide, expected in ((enable_progress_bars, "100 %"), (disable_progress_bars, "")):
        hide()
        with shown_progress(None) as report:
            report("beyond", 7.0)
        said = capsys.readouterr().err
        assert expected in said
        assert bool(said) == bool(expected)
    enable_progress_bars()
