"""``inspect`` and ``lens`` over a tiny model: what is printed, what is refused, exit statuses."""

import io
import json
import sys

import pytest

from sol_core.actions import AXIS_FIELDS, GRIDS, ActionGrid
from tests.app.command_line import one_line
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_policies import save_tiny_policy

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = "A keeper wrote 12 lines, then slept.\n"
BUDGET = ["--keep", "0.5", "--channels", "0.6", "--bits", "8"]


@pytest.fixture(scope="module")
def model():
    return make_language_model()


@pytest.fixture
def file(tmp_path, monkeypatch, model):
    """A text file, and a loader that gives the tiny model at once."""
    monkeypatch.setattr("sol_core.generation.warm_up.load_warm", lambda *_, **__: model)
    monkeypatch.setattr("sol_core.evaluation.measure_tables.ensure_tables", lambda *_: None)
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def printed(run, *argv):
    done = run(*argv, "--json")
    working = "Leaving out pages\n" if "--rank-pages" in argv else ""
    assert (done.status, done.err) == (0, "Scoring\n" if argv[0] == "inspect" else working)
    return dict(json.loads(done.out))


def test_an_inspection_is_one_json(run, file):
    report = printed(run, "inspect", file, "--schedules", "dense,static,random", *BUDGET)
    assert (report["kind"], report["version"], report["model"]) == ("inspection", 1, "tiny")
    assert report["start"]["rows"] == ["dense", "static", "random"]
    assert report["text"] == TEXT
    assert len(report["tokens"]) == len(TEXT) - 1
    assert "".join(token["text"] for token in report["tokens"]) == TEXT[1:]
    for row, totals in enumerate(report["end"]["rows"]):
        kept = [token["rows"][row]["action"]["keep_fraction"] for token in report["tokens"]]
        assert totals["spend"]["keep_fraction"] == pytest.approx(sum(kept) / len(kept))
    kinds = {kind["kind"] for kind in report["end"]["report"]["rows"][0]["kinds"]}
    assert {"number", "punctuation", "continuation", "word start"} <= kinds


def test_stdin_is_read_and_a_cut_is_told(run, file, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe\n")))
    assert printed(run, "inspect", "-", "--schedules", "static")["text"] == "from a pipe"
    done = run("inspect", file, "--schedules", "static", "--max-tokens", "9")
    assert "the text has 37 tokens; the last 28 were left out (--max-tokens 9)" in done.err
    assert "8 tokens scored after 1 read densely; measured" in done.out
    assert "static: spend by kind of token" in done.out


def test_the_lens_has_a_row_for_every_level_of_every_axis(run, file):
    inspected = printed(run, "inspect", file, "--schedules", "random", *BUDGET)
    report = printed(run, "lens", file, "--token", "20")
    assert (report["kind"], report["version"]) == ("lens", 1)
    token = inspected["tokens"][20]
    assert report["token"] == {key: token[key] for key in ("index", "token_id", "text")}
    rows = report["rows"]
    counts = [len(levels) for levels in GRIDS["default"].levels()]
    assert [sum(row["axis"] == axis for row in rows) for axis in AXIS_FIELDS] == counts
    dense = [row for row in rows if row["level"] in (1.0, 16) and row["kl"] == 0]
    assert len(dense) == 3
    nll = token["rows"][0]["nll"]
    assert [row["nll"] for row in dense] == pytest.approx([nll] * 3, abs=1e-4)
    schedule = ["--schedule", "random", *BUDGET]
    report = printed(run, "lens", file, "--token", "20", *schedule)
    assert report["taken"]["action"] == token["rows"][1]["action"]
    assert run("lens", file, "--token", "20", *schedule).out.count("  taken\n") == 3


def test_the_lens_takes_pages_away_and_ranks_them(run, file):
    arguments = ["lens", file, "--token", "30", "--schedule", "static", *BUDGET]
    report = printed(run, *arguments, "--without", "1,2", "--rank-pages")
    assert report["without"]["pages"] == [1, 2]
    assert report["without"]["kl"] > 0
    pages = report["pages"]
    assert sorted(page["page"] for page in pages) == [0, 1, 2]
    assert [page["kl"] for page in pages] == sorted((page["kl"] for page in pages), reverse=True)
    assert -1 <= report["correlation"] <= 1
    said = run(*arguments, "--without", "1,2", "--rank-pages").out
    assert "without pages 1, 2: NLL" in said
    assert "rank correlation of KL and attention over 3 pages" in said
    plain = printed(run, *arguments)
    assert not {"without", "pages", "correlation"} & set(plain)


def test_a_policys_budget_is_checked_against_its_own_grid(run, file, tmp_path, model):
    grid = ActionGrid(keep_fractions=(0.02, 0.5, 1.0))
    policy = save_tiny_policy(model, tmp_path / "tiny", grid)
    report = printed(run, "inspect", file, "--schedules", f"policy:{policy}", "--keep", "0.03")
    assert report["grid"] == "own"
    assert report["start"]["rows"] == ["dense", f"policy:{policy}"]
    for arguments in (["--keep", "0.01"], ["--keep", "0.03", "--grid", "default"]):
        done = run("inspect", file, "--schedules", f"policy:{policy}", *arguments)
        assert done.status == 2
        assert "is outside the grid's levels" in one_line(done)


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["inspect", "{file}", "--schedules", "static,best"], 2, "must be one of dense, static"),
        (["inspect", "{file}", "--schedules", "policy:nobody"], 1, "no policy 'nobody'"),
        (["inspect", "{file}", "--max-tokens", "1"], 2, "max_tokens must be above the 1"),
        (["inspect", "{file}.gone"], 1, "cannot read"),
        (["inspect", "{binary}"], 1, "is not text: byte 3 is zero"),
        (["inspect", "{latin}"], 1, "is not UTF-8 text (byte 1)"),
        (["lens", "{file}"], 2, "--token"),
        (["lens", "{file}", "--token", "36"], 2, "token must be 0 to 35, got 36"),
        (["lens", "{empty}", "--token", "0"], 1, "is empty"),
        (["lens", "{file}", "--token", "9", "--without", "1"], 2, "without pages 0 to 0, got [1]"),
        (["lens", "{file}", "--token", "9", "--without", "x"], 2, "must be numbers of pages"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run, file, tmp_path, arguments, status, named):
    contents = {"binary": b"abc\0def", "latin": b"a\xe9b", "empty": b" \n"}
    places = {"file": file}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        places[name] = str(tmp_path / name)
    done = run(*(argument.format(**places) for argument in arguments))
    assert done.status == status
    assert named in one_line(done)
