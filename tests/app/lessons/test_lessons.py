"""The lessons' experiments as the page asks for them, over the real engine with a tiny model."""

import itertools
import json
import math
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from app.lessons import experiment_queue, experiments
from app.lessons.experiments import BEGINNINGS, PASSAGES, lesson_experiments
from app.pages.learn import PAGE
from app.results.figures import result_view
from app.results.shipped import shipped_record
from app.web.calls import server_functions
from tests.app.page_calls import engine_services
from tests.app.waiting import wait_until
from tests.support.tiny_language_model import make_long_model

pytestmark = pytest.mark.usefixtures("one_thread")
LESSONS = Path(experiments.__file__).with_name("lessons.json")


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    yield from engine_services(tmp_path_factory.mktemp("data"), make_long_model())


def ask(services, name, **parameters):
    """The answer once it is there, as JSON; a refusal at once."""
    asked = {"ask_experiment": PAGE.handlers["ask_experiment"]}
    (function,) = server_functions(services, asked)
    request = {"owner": "a" * 32, "experiment": name, "parameters": parameters}
    answers = []

    def has_ended():
        answers.append(json.loads(json.dumps(function([request]), allow_nan=False)))
        return answers[-1].get("state") != "waiting"

    wait_until(has_ended, 120)  # the first of a session compiles kernels
    return answers[-1]


def result(services, name, **parameters):
    answer = ask(services, name, **parameters)
    assert answer.get("state") == "done", answer
    assert answer["result"]["model"] == "tiny"
    return dict(answer["result"])


def test_the_last_lesson_tells_what_the_shipped_evaluation_found():
    result = shipped_record("evaluate")["result"]
    head = result_view(result)["verdicts"]["static"]["kl"]["head"]
    counts = head.removeprefix("Default policy is closer to the full model than static at ")
    budgets, _, _ = counts.partition(", no difference shown")
    text = " ".join(json.loads(LESSONS.read_text("utf-8"))["spend"]["remember"])
    assert f"Over {result['scored_tokens']:,} steps" in text
    assert f"closer to the full model than even spending at {budgets}" in text


@pytest.mark.parametrize("name", sorted(lesson_experiments(MagicMock())))
def test_every_measurement_ends_where_nobody_asks_about_it(services, monkeypatch, name):
    experiment = lesson_experiments(services.policies)[name]
    is_abandoned = MagicMock()
    is_abandoned.get.return_value = lambda: True
    monkeypatch.setattr(experiment_queue, "_IS_ABANDONED", is_abandoned)
    monkeypatch.setattr(experiments, "prompt_of", lambda *_: "a story that fits this model")
    with pytest.raises(experiment_queue.AbandonedError):
        experiment.measure(services.loader.loaded(), next(iter(experiment.texts)))


def test_a_continuation_says_what_each_step_cost(services):
    found = result(services, "steps", text="keeper")
    assert found["prompt"] == BEGINNINGS["keeper"]
    assert len(found["rows"]) == 12
    dense, least = found["parts"]["dense"], found["parts"]["least"]
    assert set(dense["ms"]) == {"attention", "mlp", "head", "policy", "rest"}
    assert min(*dense["ms"].values(), *least["ms"].values()) >= 0
    assert least["bytes"]["head"] == dense["bytes"]["head"]
    assert least["bytes"]["mlp"] < dense["bytes"]["mlp"]
    read = found["rows"][6]["cost"]["bytes_read"]
    assert sum(dense["bytes"].values()) == pytest.approx(read, 0.01)


def test_every_scored_token_has_a_loss_at_every_level(services):
    found = result(services, "pages", text="comet")
    assert "".join(found["tokens"]) == PASSAGES["comet"]
    scored = len(found["tokens"]) - found["first"]
    assert scored == 32
    assert [len(row) for row in found["nll"]] == [scored] * len(found["levels"])
    assert set(found["kl"][-1]) == {0}
    assert max(found["kl"][0]) > 0
    assert [len(row) for row in found["reads"]] == [32] * (len(found["levels"]) - 1)
    for few, many in itertools.pairwise(found["reads"]):
        for at, (less, more) in enumerate(zip(few, many, strict=True)):
            assert less["share"] <= more["share"] <= 1  # by need all may be
            assert less["pages"] == -(-(found["first"] + at) // found["page_size"])


def test_both_ways_of_skipping_are_measured_at_equal_bytes(services):
    found = result(services, "mechanisms", text="recipe")
    for part, name in (("pages", "cache_bytes"), ("mlp", "mlp_bytes")):
        for paper, default in zip(found[part]["paper"], found[part]["default"], strict=True):
            assert len(paper["kl"]) == len(default["kl"]) == 32
            assert paper["kl"] != default["kl"]
            assert default[name] < 1.1 * paper[name]
    # Bytes that are skipped are those counted by hand.
    model = services.loader.loaded()
    spec, length, size = model.spec, len(PASSAGES["recipe"]), model.lm.dtype.itemsize
    kept = -(-math.ceil(0.2 * length) // 8)
    token = 2 * spec.num_layers * spec.kv_width * size
    assert found["pages"]["paper"][0]["cache_bytes"] == token * (8 * kept + -(-length // 8))
    copies = spec.num_layers * length * (spec.kv_width / 2 + 4 * spec.num_kv_heads)
    assert found["pages"]["default"][0]["cache_bytes"] == token * 8 * kept + copies
    matrix = spec.num_layers * spec.intermediate_size * spec.hidden_size * size
    share = found["mlp"]["paper"][0]["mlp_bytes"] / (3 * matrix)
    assert share == pytest.approx(0.6, abs=2 / spec.hidden_size)


def test_spenders_do_without_a_policy_of_another_model_and_say_why(services):
    found = result(services, "spenders", text="lighthouse")
    assert [one["name"] for one in found["spenders"]] == ["even", "hindsight"]
    assert "was trained for" in found["policy"]
    even, hindsight = (sum(one["kl"]) for one in found["spenders"])
    assert hindsight < even


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("steps", {"text": "lighthouse"}, "No text is called 'lighthouse'"),
        ("steps", {"text": ["door"]}, "No text is called"),
        ("missing", {"text": "horse"}, "1,024"),  # tokens that the tiny model can read
    ],
)
def test_what_no_page_asks_is_refused(services, name, parameters, words):
    refused = ask(services, name, **parameters)["refused"]
    assert words in refused
    assert len(refused) < 300


@pytest.mark.model
def test_the_lessons_questions_have_answers_on_the_real_model(either_model):
    """What the questions are about happens: a name is lost, a way of skipping is better."""
    from app.lessons.experiments import channels, mechanisms, missing, pages

    model = either_model
    found = pages(model, "lighthouse")
    scored = found["tokens"][found["first"] :]
    losses = [few - all_ for few, all_ in zip(found["nll"][0], found["nll"][-1], strict=True)]
    assert {" Port", " asked", " light"} <= set(scored)
    assert max(losses) > 1
    dense = channels(model, "capital")["rows"][-1]["top"][0]
    assert dense["text"] == " Paris"
    for ways in (skipped := mechanisms(model, "lighthouse"))["pages"], skipped["mlp"]:
        for paper, default in zip(ways["paper"], ways["default"], strict=True):
            assert sum(default["kl"]) < sum(paper["kl"]) / 2
    found = missing(model, "horse")
    changed = [row for row in found["rows"] if row["changed"]]
    assert [row["text"] for row in changed] == [" is called Juniper and is afraid of"]
    assert found["said"] == " Jun"
    assert changed[0]["kl"] > 3
    assert changed[0]["attention"] < 0.3 * max(row["attention"] for row in found["rows"])
