"""Generation end to end on a tiny model, and its promises on the real one."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch

from sol_core.actions import DENSE, GRIDS, Action, Budget
from sol_core.config import GenerationConfig, SamplingConfig, ScheduleConfig, SideRowConfig
from sol_core.decoding.cost import CostModel
from sol_core.errors import ConfigError, ContextLengthError
from sol_core.events import FinishEvent, PrefillEvent, TokenEvent, event_to_dict
from sol_core.fields import from_json
from sol_core.generation.engine import encode_prompt, generate
from sol_core.models.loading import LanguageModel
from tests.support.tiny_language_model import END, make_language_model

DENSE_SCHEDULE = ScheduleConfig("dense")
HALF = ScheduleConfig("static", Budget(0.5, 0.6, 8.0))
SHADOW = SideRowConfig("dense", DENSE_SCHEDULE)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return make_language_model()


def _run(
    model: LanguageModel, prompt: str = "Once upon a time", **options: Any
) -> tuple[PrefillEvent, list[TokenEvent], FinishEvent]:
    config = GenerationConfig(**({"max_new_tokens": 20, "ignore_end_of_text": True} | options))
    first, *tokens, last = generate(model, prompt, config)
    assert isinstance(first, PrefillEvent)
    assert isinstance(last, FinishEvent)
    assert all(isinstance(event, TokenEvent) for event in tokens)
    return first, tokens, last  # type: ignore[return-value]


def test_dense_generation_is_greedy_decoding_of_the_model(model: LanguageModel) -> None:
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
    assert finish.reason == "length"
    assert finish.num_tokens == 20


@pytest.mark.parametrize("kind", ["dense", "static", "random", "emc", "dac"])
def test_every_schedule_meets_its_budget(model: LanguageModel, kind: Any) -> None:
    schedule = ScheduleConfig(kind, Budget(0.5, 0.6, 8.0))
    _, tokens, finish = _run(model, schedule=schedule, max_new_tokens=48)
    assert finish.spend is not None
    wanted = (1.0, 1.0, 16.0) if kind == "dense" else (0.5, 0.6, 8.0)
    for spent, target in zip(finish.spend.as_tuple(), wanted, strict=True):
        assert spent == pytest.approx(target, abs=0.01)
    assert finish.cost.flops == pytest.approx(sum(event.cost.flops for event in tokens))


def test_the_cost_is_that_of_the_grids_mechanisms(model: LanguageModel) -> None:
    _, tokens, _ = _run(model, schedule=HALF, grid=GRIDS["default"], max_new_tokens=4)
    costs = CostModel.of(model.lm, GRIDS["default"])
    for event in tokens:
        counted = costs.decode_step(event.action, event.cached_tokens)
        assert event.cost.mlp_bytes == counted.mlp_bytes
        assert event.cost.head_bytes == counted.head_bytes
        # A short last page has fewer tokens than the action allows for.
        assert 0 <= counted.attention_bytes - event.cost.attention_bytes < 8 * 8 * 128


def test_the_same_seed_gives_the_same_events(model: LanguageModel) -> None:
    options = {"schedule": ScheduleConfig("random", Budget(0.5, 0.6, 8.0), seed=5),
               "sampling": SamplingConfig(temperature=1.0, top_p=0.95, seed=3)}  # fmt: skip
    first, second = _run(model, **options)[1], _run(model, **options)[1]
    assert [(e.token_id, e.action, e.surprisal) for e in first] == [
        (e.token_id, e.action, e.surprisal) for e in second
    ]


def test_side_rows_measure_without_changing_anything(model: LanguageModel) -> None:
    _, alone, _ = _run(model, schedule=HALF)
    _, dense, _ = _run(model, schedule=DENSE_SCHEDULE)
    random_row = SideRowConfig("random", ScheduleConfig("random", Budget(0.4, 0.5, 7.0)))
    _, together, _ = _run(model, schedule=HALF, side_rows=(SHADOW, random_row))
    assert [e.token_id for e in together] == [e.token_id for e in alone]
    for event, single in zip(together, alone, strict=True):
        assert event.surprisal == pytest.approx(single.surprisal, abs=1e-3)
        assert [side.name for side in event.side] == ["dense", "random"]
        assert event.side[0].action == DENSE
        assert event.kl_to_dense is not None
        assert event.kl_to_dense >= 0
        assert event.side[0].kl_to_dense == pytest.approx(0.0, abs=1e-6)
        assert single.kl_to_dense is None
    assert together[0].side[0].surprisal != together[0].surprisal
    # As long as the path is the dense one, the shadow is the dense run.
    assert together[0].side[0].entropy == pytest.approx(dense[0].entropy, abs=1e-4)


def test_stop_takes_effect_within_one_token(model: LanguageModel) -> None:
    seen: list[TokenEvent] = []
    events = generate(
        model, "hi", GenerationConfig(max_new_tokens=50, ignore_end_of_text=True),
        lambda: len(seen) >= 3,
    )  # fmt: skip
    for event in events:
        if isinstance(event, TokenEvent):
            seen.append(event)
    assert len(seen) == 3
    assert isinstance(event, FinishEvent)
    assert event.reason == "stopped"


def test_stop_before_the_first_token(model: LanguageModel) -> None:
    *_, finish = generate(model, "hi", GenerationConfig(), lambda: True)
    assert isinstance(finish, FinishEvent)
    assert (finish.reason, finish.num_tokens, finish.spend) == ("stopped", 0, None)


def test_stop_string_ends_and_is_left_out(model: LanguageModel) -> None:
    _, tokens, finish = _run(model)
    stop = finish.text[5:8]
    _, cut, ended = _run(model, stop_strings=(stop,))
    assert ended.reason == "stop_string"
    assert ended.text == finish.text[: finish.text.index(stop)]
    assert len(cut) < len(tokens)


def test_end_of_text_ends_and_is_spelled_out(model: LanguageModel) -> None:
    end = model.tokenizer.convert_tokens_to_ids(END)
    _, tokens, _ = _run(model, max_new_tokens=1)
    ending = dataclasses.replace(model, end_of_text_ids=frozenset({tokens[0].token_id, end}))
    _, tokens, finish = _run(ending, ignore_end_of_text=False)
    assert finish.reason == "end_of_text"
    assert len(tokens) == 1


def test_context_full_is_said(model: LanguageModel) -> None:
    prompt = "x" * (model.context_length - 4)
    _, tokens, finish = _run(model, prompt, max_new_tokens=10)
    assert finish.reason == "context_full"
    assert len(tokens) == 4


def test_one_token_prompt(model: LanguageModel) -> None:
    first, tokens, _ = _run(model, "x", max_new_tokens=3)
    assert first.prompt_tokens == 1
    assert tokens[0].cached_tokens == 1


@pytest.mark.parametrize("prompt", ["", "   \n"])
def test_empty_prompt_is_refused(model: LanguageModel, prompt: str) -> None:
    with pytest.raises(ConfigError, match="empty"):
        generate(model, prompt, GenerationConfig())


def test_long_prompt_is_refused(model: LanguageModel) -> None:
    with pytest.raises(ContextLengthError, match=r"300 tokens.*256"):
        generate(model, "x" * 300, GenerationConfig())


def test_a_lone_surrogate_is_read_as_the_replacement_character(model: LanguageModel) -> None:
    assert encode_prompt(model, "bad \ud800 text", chat=False) == encode_prompt(
        model, "bad \ufffd text", chat=False
    )


def test_events_are_plain_json(model: LanguageModel) -> None:
    config = GenerationConfig(schedule=HALF, side_rows=(SHADOW,), max_new_tokens=3)
    for event in generate(model, "hé", config):
        record = json.loads(json.dumps(event_to_dict(event), allow_nan=False))
        assert record["type"] in ("prefill", "token", "finish")
        assert record["cost"]["flops"] >= 0


def test_configuration_survives_json() -> None:
    config = GenerationConfig(
        schedule=ScheduleConfig("random", Budget(0.3, 0.55, 7.5), 4), side_rows=(SHADOW,),
        sampling=SamplingConfig(temperature=0.7, top_k=5), stop_strings=("a", "b"), chat=True,
    )  # fmt: skip
    assert from_json(GenerationConfig, json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ConfigError, match="unknown field 'colour'"):
        from_json(GenerationConfig, {"colour": 1})


@pytest.mark.model
def test_real_model_answers(default_model: LanguageModel) -> None:
    _, tokens, finish = _run(
        default_model, "What is the capital of France?", chat=True, schedule=DENSE_SCHEDULE,
        ignore_end_of_text=False, max_new_tokens=40,
    )  # fmt: skip
    assert "Paris" in finish.text
    assert finish.reason == "end_of_text"
    assert tokens[-1].text == "<|im_end|>"


@pytest.mark.model
def test_real_model_dense_equals_transformers(
    default_model: LanguageModel, default_model_dir: Any
) -> None:
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(default_model_dir, dtype=torch.float32)
    prompt = "The three primary colours are"
    ids = default_model.tokenizer(prompt, return_tensors="pt")
    expected = theirs.generate(**ids, max_new_tokens=40, do_sample=False)[0]
    _, tokens, _ = _run(default_model, prompt, schedule=DENSE_SCHEDULE, max_new_tokens=40)
    produced = [event.token_id for event in tokens]
    assert produced == expected[ids["input_ids"].shape[1] :].tolist()[: len(produced)]


@pytest.mark.model
def test_real_model_spends_less_and_says_so(default_model: LanguageModel) -> None:
    _, tokens, finish = _run(
        default_model, "A story about a fox:", schedule=HALF, side_rows=(SHADOW,),
        max_new_tokens=32,
    )  # fmt: skip
    assert finish.cost.bytes_read < 0.9 * finish.dense_cost.bytes_read
    assert all(event.action == Action(0.5, 0.6, 8) for event in tokens)
    assert sum(event.kl_to_dense or 0.0 for event in tokens) > 0
