"""Generation end to end on a tiny model, and its promises on the real one."""

import dataclasses

import pytest
import torch

import sol_core as library
from sol_core.actions import DENSE, GRIDS, Action, Budget, Spend
from sol_core.config import GenerationConfig, SamplingConfig, ScheduleConfig, SideRowConfig
from sol_core.decoding.batch_scheduling import StepReads
from sol_core.decoding.cost import CostModel
from sol_core.errors import ConfigError, ContextLengthError
from sol_core.events import FinishEvent, PrefillEvent, TokenEvent
from sol_core.generation.engine import generate
from sol_core.models.devices import cpu_name
from tests.support.tiny_language_model import END

DENSE_SCHEDULE = ScheduleConfig("dense")
HALF = ScheduleConfig("static", Budget(0.5, 0.6, 8.0))
SHADOW = SideRowConfig("dense", DENSE_SCHEDULE)


def _run(model, prompt="Once upon a time", **options):
    config = GenerationConfig(**({"max_new_tokens": 20, "ignore_end_of_text": True} | options))
    first, *tokens, last = generate(model, prompt, config)
    assert isinstance(first, PrefillEvent)
    assert isinstance(last, FinishEvent)
    assert all(isinstance(event, TokenEvent) for event in tokens)
    return first, tokens, last


def test_dense_generation_is_greedy_decoding_of_the_model(model):
    _, tokens, finish = _run(model, schedule=DENSE_SCHEDULE)
    ids = model.tokenizer("Once upon a time")["input_ids"]
    for event in tokens:
        cache = model.lm.new_cache(1, len(ids))
        logits = model.lm.logits(model.lm.prefill(torch.tensor([ids]), cache)[:, -1])[0]
        assert event.token_id == int(logits.argmax())
        expected = torch.log_softmax(logits, -1)
        assert event.surprisal == pytest.approx(-float(expected[event.token_id]), abs=1e-3)
        assert event.top[0].token_id == event.token_id
        assert event.cached_tokens == len(ids)
        ids.append(event.token_id)
    assert (finish.reason, finish.num_tokens) == ("length", 20)
    assert finish.cost.flops == pytest.approx(sum(event.cost.flops for event in tokens))
    assert finish.spend == Spend(bytes_share=1.0)
    assert finish.made_on["dtype"] == "float32"
    assert finish.made_on["processor"] == cpu_name()


def test_the_cost_is_that_of_the_grids_mechanisms(model):
    _, tokens, _ = _run(model, schedule=HALF, grid=GRIDS["default"], max_new_tokens=4)
    costs = CostModel.of(model.lm, GRIDS["default"])
    for event in tokens:
        counted = costs.decode_step(event.action, event.cached_tokens)
        assert event.cost.mlp_bytes == counted.mlp_bytes
        # Groups read what they need, between the heaviest page and all.
        least, most = (
            costs.decode_step(event.action, event.cached_tokens, StepReads(read)).attention_bytes
            for read in (0, model.spec.num_layers * model.spec.num_kv_heads * event.cached_tokens)
        )
        assert least < event.cost.attention_bytes <= most


def test_side_rows_measure_without_changing_anything(model):
    _, alone, _ = _run(model, schedule=HALF)
    _, dense, _ = _run(model, schedule=DENSE_SCHEDULE)
    random_row = SideRowConfig("random", ScheduleConfig("random", Budget(0.4, 0.5, 7.0)))
    _, together, _ = _run(model, schedule=HALF, side_rows=(SHADOW, random_row))
    assert [e.token_id for e in together] == [e.token_id for e in alone]
    for event, single in zip(together, alone, strict=True):
        assert event.surprisal == pytest.approx(single.surprisal, abs=1e-3)
        assert [side.name for side in event.side] == ["dense", "random"]
        assert event.side[0].action == DENSE
        assert event.kl_to_dense >= 0
        assert event.side[0].kl_to_dense == pytest.approx(0.0, abs=1e-6)
        assert single.kl_to_dense is None
    assert together[0].side[0].surprisal != together[0].surprisal
    # As long as the path is the dense one, the shadow is the dense run.
    assert together[0].side[0].entropy == pytest.approx(dense[0].entropy, abs=1e-4)


def test_stop_takes_effect_within_one_token(model):
    config = GenerationConfig(max_new_tokens=50, ignore_end_of_text=True)
    seen = []
    for event in generate(model, "hi", config, lambda: len(seen) >= 4):
        seen.append(event)
    assert [type(one) for one in seen] == [PrefillEvent, *[TokenEvent] * 3, FinishEvent]
    assert seen[-1].reason == "stopped"
    *_, finish = generate(model, "hi", GenerationConfig(), lambda: True)
    assert isinstance(finish, FinishEvent)
    assert (finish.reason, finish.num_tokens, finish.spend) == ("stopped", 0, None)


def test_stop_string_ends_and_is_left_out(model):
    _, tokens, finish = _run(model)
    stop = finish.text[5:8]
    _, cut, ended = _run(model, stop_strings=(stop,))
    assert ended.reason == "stop_string"
    assert ended.text == finish.text[: finish.text.index(stop)]
    assert len(cut) < len(tokens)


def test_end_of_text_ends_and_is_spelled_out(model):
    end = model.tokenizer.convert_tokens_to_ids(END)
    _, tokens, _ = _run(model, max_new_tokens=1)
    ending = dataclasses.replace(model, end_of_text_ids=frozenset({tokens[0].token_id, end}))
    _, tokens, finish = _run(ending, ignore_end_of_text=False)
    assert finish.reason == "end_of_text"
    assert len(tokens) == 1


def test_prompts_that_cannot_be_read_are_refused(model):
    for prompt in ("", "   \n"):
        with pytest.raises(ConfigError, match="empty"):
            generate(model, prompt, GenerationConfig())
    with pytest.raises(ContextLengthError, match=r"300 tokens.*256"):
        generate(model, "x" * 300, GenerationConfig())


def test_a_lone_surrogate_is_refused_wherever_text_is_given(model, tmp_path):
    text, budget = "a \ud83d b", Budget(0.5, 0.7, 8)
    for call in (
        lambda: library.generate(model, text),
        lambda: library.generate_many(model, ["whole", text]),
        lambda: library.score(model, text),
        lambda: library.score(model, "whole", context=text),
        lambda: library.inspect(model, text, "static", budget),
        lambda: library.what_if(model, text, 1),
        lambda: library.count_tokens(model, text),
        lambda: library.evaluate(model, lambda _: Action(), corpus=[text], data_dir=tmp_path),
    ):
        with pytest.raises(ConfigError, match=r"half a character, the lone surrogate U\+D83D at 2"):
            call()


AT = 9
# A schedule and a sampler with a state of their own.
SEEDED = {
    "schedule": ScheduleConfig("random", Budget(0.5, 0.6, 8.0), seed=5),
    "side_rows": (SHADOW,),
    "sampling": SamplingConfig(temperature=1.0, top_p=0.95, repetition_penalty=1.2, seed=3),
}


def measured(events):
    return [(one.token_id, one.action, one.surprisal, one.kl_to_dense) for one in events]


def test_another_token_changes_what_follows_and_nothing_before(model):
    whole = _run(model, **SEEDED)[1]
    first = tuple(one.token_id for one in whole[:AT])
    assert measured(_run(model, **SEEDED, given=first)[1]) == measured(whole)
    other = whole[AT].top[1].token_id
    assert other != whole[AT].token_id
    fork = _run(model, **SEEDED, given=(*first, other))[1]
    assert measured(fork[:AT]) == measured(whole[:AT])
    assert (fork[AT].token_id, fork[AT].action) == (other, whole[AT].action)
    assert fork[AT].top == whole[AT].top  # it was put in after the step
    assert [one.token_id for one in fork[AT + 1 :]] != [one.token_id for one in whole[AT + 1 :]]
    assert len(fork) == len(whole)


def test_tokens_that_cannot_be_given_are_refused(model):
    with pytest.raises(ConfigError, match="outside the vocabulary of"):
        _run(model, given=(model.spec.vocab_size,))
    with pytest.raises(ConfigError, match="given"):
        GenerationConfig(given=(-1,))
    with pytest.raises(ConfigError, match="at most 20 tokens are made, 21 are given"):
        _run(model, given=(1,) * 21)
    end = min(model.end_of_text_ids)
    assert len(_run(model, given=(7, end), ignore_end_of_text=False)[1]) == 2
