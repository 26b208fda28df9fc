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

from sol_core import Action, Budget, GenerationConfig, from_transformers, generate, sol_generate
from sol_core.errors import ConfigError, PolicyError
from sol_core.policy.policy import load_policy
from tests.support.tiny_language_model import byte_tokenizer
from tests.support.tiny_models import FAMILIES, Family, make_pair
from tests.support.tiny_policies import save_tiny_policy

pytestmark = pytest.mark.usefixtures("one_thread")
HUB = Path(__file__).resolve().parents[3] / "docs" / "hub"
BUDGET = "0.5,0.7,8"
TEXT = "Once upon a time there was a fox."
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
    """Whatever happens in a call, the model is the same to the last bit after it."""
    members, weights = dict(vars(theirs)), {k: v.clone() for k, v in theirs.state_dict().items()}
    yield
    assert dict(vars(theirs)) == members
    assert all(torch.equal(v, weights[k]) for k, v in theirs.state_dict().items())


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


def _ids(text=TEXT):
    return torch.tensor([byte_tokenizer()(text)["input_ids"]])


def _inputs(**options):
    ids = _ids()
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "do_sample": False, **options}


def _own(observation):
    return Action() if observation.step % 3 == 0 else Action(0.3, 0.5, 6)


def test_it_gives_what_generate_gives(theirs, ours, way, tmp_path):
    policy = load_policy(save_tiny_policy(ours, tmp_path / "tiny"), ours)
    for chosen, budget, asked in (
        (None, BUDGET, Budget(0.5, 0.7, 8)),
        (None, "95%", Budget.share(0.95)),
        (policy, BUDGET, Budget(0.5, 0.7, 8)),
        (_own, None, None),
        (None, None, None),
    ):
        expected = generate(ours, TEXT, chosen, asked, max_new_tokens=12, config=ON)
        given = {"policy": chosen, "budget": budget}
        made = theirs.generate(**_inputs(max_new_tokens=12), **way, **given)
        assert made[0, : _ids().shape[1]].tolist() == _ids()[0].tolist()
        assert made[0, _ids().shape[1] :].tolist() == [one.token_id for one in expected.tokens]
    whole = theirs.generate(
        **_inputs(max_new_tokens=4), **way, budget=BUDGET, return_dict_in_generate=True,
        output_scores=True,
    )  # fmt: skip
    assert whole.sequences.shape[1] == _ids().shape[1] + 4
    assert (len(whole.scores), whole.logits) == (4, None)


def test_sampling_is_transformers_own(theirs, way):
    options = _inputs(max_new_tokens=9) | {"do_sample": True, "top_k": 20, "temperature": 0.8}
    torch.manual_seed(3)
    alone = theirs.generate(**options)
    torch.manual_seed(3)
    assert torch.equal(theirs.generate(**options, **way), alone)


def test_a_class_is_made_for_every_call(theirs):
    made = []

    class Counting:
        def __init__(self, budget):
            self.budget = budget
            made.append(self)

        def __call__(self, observation):
            return Action(self.budget.keep_fraction, 0.5, 8)

    for _ in range(2):
        options = _inputs(max_new_tokens=3, policy=Counting, budget=BUDGET)
        theirs.generate(**options, custom_generate=sol_generate)
    assert len(set(map(id, made))) == len(made) >= 2


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


def test_what_it_cannot_do_is_refused(theirs, ours, way, tmp_path):
    mask = torch.ones_like(_ids())
    mask[0, 0] = 0
    policy = load_policy(save_tiny_policy(ours, tmp_path / "tiny"), ours)
    for message, options in (
        ("one sequence", {"num_beams": 2}),
        ("one sequence", {"num_return_sequences": 2, "do_sample": True}),
        ("no padding", {"attention_mask": mask}),
        ("prompt_lookup_num_tokens", {"prompt_lookup_num_tokens": 2}),
        ("no output_attentions", {"output_attentions": True, "return_dict_in_generate": True}),
        ("policy must be a Policy", {"policy": "default"}),
        ("needs a budget", {"policy": policy}),
        ("leave the budget", {"policy": _own, "budget": BUDGET}),
        ("a share of the bytes is written", {"budget": "much%"}),
        ("a number per axis", {"budget": "0.5"}),
        ("outside the grid", {"budget": "0.01,0.5,8"}),
    ):
        with pytest.raises(ConfigError, match=message):
            theirs.generate(**_inputs(max_new_tokens=3) | options, **way)
    with pytest.raises(ValueError, match="polcy"):
        theirs.generate(**_inputs(max_new_tokens=3), **way, polcy=_own)
    other, _ = make_pair(FAMILIES[0])
    ids = _ids() % other.config.vocab_size
    with pytest.raises(PolicyError, match="not for this model"):
        other.generate(ids, **way, policy=policy, budget=BUDGET, max_new_tokens=3)


def test_the_folder_needs_trust(theirs):
    with pytest.raises(ValueError, match="trust_remote_code"):
        theirs.generate(**_inputs(), custom_generate=str(HUB), trust_remote_code=False)


def test_a_pipeline_decodes_under_it(theirs, ours):
    write = pipeline("text-generation", model=theirs, tokenizer=byte_tokenizer())
    options = {"max_new_tokens": 8, "do_sample": False, "return_full_text": False}
    (made,) = write(TEXT, **options, custom_generate=sol_generate, policy=_own)
    expected = generate(ours, TEXT, _own, max_new_tokens=8, config=ON)
    assert made["generated_text"] == expected.text
