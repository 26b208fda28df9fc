"""Results show themselves in notebooks: frames with the page's own parts, tables, figures."""

import html
import re

import pytest

from app.results.shipped import shipped_record
from sol_core import (
    Budget,
    EvaluationResult,
    GenerationConfig,
    generate,
    generate_many,
    inspect,
    score,
)
from sol_core.config import ScheduleConfig, SideRowConfig
from sol_core.errors import ConfigError
from sol_core.reporting import figures
from tests.support.exported_page import data_of
from tests.support.job_samples import evaluation_result
from tests.support.tiny_language_model import make_language_model

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPT = "</script><b>Once</b> upon a time"
BUDGET = Budget(0.5, 0.7, 8)


@pytest.fixture(scope="module")
def model():
    return make_language_model()


def _framed(result):
    """The page in a result's frame, and its data."""
    shown = result._repr_html_()
    (page,) = re.findall(r'<iframe srcdoc="([^"]*)"', shown)
    assert shown.count("<") == 2, "a frame and nothing else"
    assert not re.search(r"""(?:src|href)=["']?https?:""", html.unescape(page)), "self-contained"
    return data_of(html.unescape(page))


def test_a_generation_is_the_pages_run(model):
    dense = SideRowConfig("dense", ScheduleConfig("dense"))
    config = GenerationConfig(side_rows=(dense,), max_new_tokens=6)
    made = generate(model, PROMPT, None, BUDGET, config=config)
    data = _framed(made)
    assert data["run"]["prompt"] == PROMPT
    assert [row["token_id"] for row in data["rows"]] == [token.token_id for token in made.tokens]
    assert data["run"]["config"]["grid"]["page_scorer"] == "int4", "the grid that was used"
    assert data["prefill"]["prompt_tokens"] == len(model.encode(PROMPT))
    both = generate_many(model, [PROMPT, "x"], None, BUDGET, max_new_tokens=3)
    assert [_framed(one)["run"]["prompt"] for one in both] == [PROMPT, "x"]
    hidden = generate(model, "x", record={"hidden"}, max_new_tokens=2)
    assert len(_framed(hidden)["rows"]) == 2, "tensors stay behind"
    assert len(_plotted(made.plot())) == 3, "share, surprisal, KL"


def test_an_inspection_is_the_pages_inspection(model):
    made = inspect(model, PROMPT, "static", BUDGET)
    data = _framed(made)
    assert (data["run"]["kind"], data["run"]["prompt"]) == ("inspection", PROMPT)
    assert data["prefill"]["rows"] == ["dense", "static"]
    assert len(data["rows"]) == len(made.tokens)
    assert len(_plotted(made.plot())) == 4


def test_a_score_and_an_evaluation_are_tables_with_intervals(model):
    result = EvaluationResult(shipped_record("evaluate")["result"])
    for budget in result["budgets"]:
        budget["methods"]["<b>mine"] = budget["methods"].pop("default")
    shown = result._repr_html_()
    first = result["budgets"][0]["methods"]["<b>mine"]
    interval = f"{first['kl']:.4f} ({first['kl_low']:.4f} to {first['kl_high']:.4f})"
    assert "<td>&lt;b&gt;mine</td>" in shown
    assert f"<td>{interval}</td>" in shown
    assert "<b>" not in shown


def test_an_evaluation_s_file_shows_whether_it_was_changed(tmp_path):
    result = EvaluationResult(evaluation_result(("mine", "other")))
    result.save(tmp_path / "mine.json")
    assert EvaluationResult.load(tmp_path / "mine.json") == result
    text = (tmp_path / "mine.json").read_text()
    (tmp_path / "mine.json").write_text(text.replace('"mine"', '"ours"'))
    with pytest.raises(ConfigError, match="not what was measured"):
        EvaluationResult.load(tmp_path / "mine.json")


@pytest.mark.parametrize("library", ["matplotlib", "plotly"])
def test_a_result_is_plotted_by_the_library_that_is_there(model, library, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr(figures, "find_spec", lambda name: name if name == library else None)
    names = {
        "one": _plotted(score(model, PROMPT, None, BUDGET).plot()),
        "two": _plotted(EvaluationResult(shipped_record("evaluate")["result"]).plot()),
    }
    assert names["one"] == ["read", "NLL"]
    assert "static" in names["two"]
    assert "dense" not in names["two"]


def _plotted(figure):
    """Names of the lines of either library's figure."""
    if hasattr(figure, "data"):
        return [line.name for line in figure.data]
    return [line.get_label() for ax in figure.axes for line in ax.lines]


def test_a_result_in_a_terminal_is_one_line(model):
    made = generate(model, PROMPT, None, BUDGET, max_new_tokens=3)
    assert repr(made) == f"Generation({made.text!r}, 3 tokens, {made.spend.words})"
    assert repr(score(model, PROMPT, None, BUDGET)).startswith("Score(")
    assert repr(inspect(model, PROMPT, "static", BUDGET)).startswith("Inspection(")


def test_a_figure_needs_one_of_two_packages(model, monkeypatch):
    made = generate(model, "x", max_new_tokens=2)
    monkeypatch.setattr(figures, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="matplotlib or plotly"):
        made.plot()
