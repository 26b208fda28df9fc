"""transformers' generate with ``custom_generate``: the callable, and the folder for the Hub."""

import threading
from pathlib import Path

import pytest
import torch
from transformers import (
    MaxLengthCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
    TextIteratorStreamer,
    dynamic_module_utils,
    pipeline,
)

from sol_core import Action, Budget, attach, sol_generate
from sol_core.errors import ConfigError
from tests.sol_core.generation.test_attach import TEXT, _ids
from tests.support.tiny_language_model import byte_tokenizer
from tests.support.tiny_models import Family, make_pair

pytestmark = pytest.mark.usefixtures("one_thread")
HUB = Path(__file__).resolve().parents[3] / "docs" / "hub"
BUDGET = "0.5,0.7,8"


@pytest.fixture(scope="module")
def theirs():
    model, _ = make_pair(Family("llama", "Llama", {"vocab_size": 257}))
    model.generation_config.eos_token_id = None
    return model


@pytest.fixture(params=["callable", "folder"])
def way(request, tmp_path, monkeypatch):
    """Arguments of ``generate`` that call ours."""
    if request.param == "callable":
        return {"custom_generate": sol_generate}
    # Where transformers copies trusted code, and the installed package that the folder requires.
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path))
    installed = tmp_path / "sol_explorer-0.1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: sol-explorer\nVersion: 0.1.0")
    return {"custom_generate": str(HUB), "trust_remote_code": True}


def _inputs(**options):
    ids = _ids()
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "do_sample": False, **options}


def _own(observation):
    return Action() if observation.step % 3 == 0 else Action(0.3, 0.5, 6)


def test_it_gives_what_a_block_of_attach_gives(theirs, way):
    before = dict(vars(theirs))
    for policy, budget, asked in (
        (None, BUDGET, Budget(0.5, 0.7, 8)),
        (None, "95%", Budget.share(0.95)),
        (_own, None, None),
        (None, None, None),
    ):
        with attach(theirs, policy, asked) as spent:
            expected = theirs.generate(**_inputs(max_new_tokens=12))
        assert len(spent.actions) == 12
        given = {"policy": policy, "budget": budget}
        made = theirs.generate(**_inputs(max_new_tokens=12), **way, **given)
        assert torch.equal(made, expected)
        assert dict(vars(theirs)) == before, "the model is as it was"
    whole = theirs.generate(
        **_inputs(max_new_tokens=4), **way, budget=BUDGET, return_dict_in_generate=True
    )
    assert whole.sequences.shape[1] == _ids().shape[1] + 4


def test_it_streams_and_stops(theirs, way):
    tokenizer = byte_tokenizer()
    plain = theirs.generate(**_inputs(max_new_tokens=9), **way, budget=BUDGET)
    words = tokenizer.decode(plain[0, _ids().shape[1] :])
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=60)
    options = _inputs(max_new_tokens=9, streamer=streamer, budget=BUDGET, **way)
    thread = threading.Thread(target=theirs.generate, kwargs=options)
    thread.start()
    assert "".join(streamer) == words
    thread.join()
    stop = StoppingCriteriaList(
        [MaxLengthCriteria(_ids().shape[1] + 5), StopStringCriteria(tokenizer, [words[:2]])]
    )
    stopped = theirs.generate(**_inputs(max_new_tokens=9, stopping_criteria=stop, **way))
    assert _ids().shape[1] < stopped.shape[1] <= _ids().shape[1] + 5


def test_it_refuses_what_attach_refuses(theirs, way):
    before = dict(vars(theirs))
    for message, options in (
        ("one sequence", {"num_beams": 2}),
        ("one sequence", {"num_return_sequences": 2, "do_sample": True}),
        ("prompt_lookup_num_tokens", {"prompt_lookup_num_tokens": 2}),
        ("policy must be a Policy", {"policy": "default"}),
        ("a share of the bytes is written", {"budget": "much%"}),
        ("a number per axis", {"budget": "0.5"}),
        ("outside the grid", {"budget": "0.01,0.5,8"}),
    ):
        with pytest.raises(ConfigError, match=message):
            theirs.generate(**_inputs(max_new_tokens=3) | options, **way)
    with pytest.raises(ValueError, match="polcy"):
        theirs.generate(**_inputs(max_new_tokens=3), **way, polcy=_own)
    assert dict(vars(theirs)) == before


def test_the_folder_needs_trust(theirs):
    with pytest.raises(ValueError, match="trust_remote_code"):
        theirs.generate(**_inputs(), custom_generate=str(HUB), trust_remote_code=False)


def test_a_pipeline_decodes_under_it(theirs):
    write = pipeline("text-generation", model=theirs, tokenizer=byte_tokenizer())
    options = {"max_new_tokens": 8, "do_sample": False, "return_full_text": False}
    with attach(theirs, _own):
        (expected,) = write(TEXT, **options)
    (made,) = write(TEXT, **options, custom_generate=sol_generate, policy=_own)
    assert made == expected
