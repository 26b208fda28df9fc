"""The command line's contract: what goes to stdout, what to stderr, and the exit status."""

import io
import json
import math
import re
import signal
import sqlite3
import sys
from contextlib import closing
from types import SimpleNamespace

import pytest

from app.cli import main as cli
from sol_core.actions import AXIS_FIELDS
from sol_core.config import GenerationConfig
from sol_core.errors import ModelLoadError
from sol_core.fields import from_json
from tests.app.command_line import one_line, started
from tests.app.tiny_project import PROJECT
from tests.support.fake_engine import FAKE_MODEL, FakeEngine

CASE = {"input_ids": [1, 2, 3, 4], "context_len": 2, "schedules": [[[0.5, 1.0, 16]]]}
BUDGET = ["--keep", "0.5", "--channels", "0.6", "--bits", "8"]


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    """A stand-in for the engine, which ``generate`` finds in its place."""
    fake = FakeEngine()
    model = SimpleNamespace(
        **(
            vars(FAKE_MODEL)
            | {"spec": SimpleNamespace(vocab_size=10), "encode": lambda text, **_: [1] * 400}
        )
    )

    def load(name, *, on_progress, **_):
        on_progress("reading the model", 0.5)
        return model

    def generate(model, prompt, config, policies, options=None):
        return fake(model, prompt, config, lambda: False)

    monkeypatch.setattr("sol_core.generation.warm_up.load_warm", load)

    def generate_many(model, prompts, config, policies, options):
        for number, prompt in reversed(list(enumerate(prompts))):
            for event in fake(model, prompt, config, lambda: False):
                yield number, event

    monkeypatch.setattr("sol_core.generation.engine.generate", generate)
    monkeypatch.setattr("sol_core.generation.engine.generate_many", generate_many)
    monkeypatch.setattr(
        "sol_core.generation.scoring.score_case",
        lambda model, case, quant_site: [[0.25] * case.num_steps for _ in case.schedules],
    )
    return fake


def test_generate_takes_a_file_of_prompts(run, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("The sea\n\nA fox \u2014 <b>x</b>\n", "utf-8")
    asked = ["generate", "--prompts", str(file), *BUDGET, "--max-new-tokens", "4"]
    reports = json.loads(run(*asked, "--json").out)
    assert [one["prompt"] for one in reports] == ["The sea", "A fox \u2014 <b>x</b>"]
    assert all(len(one["events"]) == 4 for one in reports)
    alone = json.loads(run("generate", "The sea", *BUDGET, *asked[-2:], "--json").out)
    assert reports[0]["text"] == alone["text"]
    shown = run(*asked)
    assert shown.out.startswith(f"The sea\n{alone['text']}\n")
    assert shown.out.count("measured ") == 2
    assert "give a PROMPT, --prompt-file FILE or --prompts FILE" in one_line(run(*asked, "x"))
    assert "cannot read nowhere" in one_line(run("generate", "--prompts", "nowhere"))


def test_generate_takes_a_long_prompt_from_a_file(run, tmp_path, monkeypatch):
    prompt = "The sea.\n\nA fox \u2014"
    file = tmp_path / "prompt.txt"
    file.write_bytes(f"\ufeff{prompt}\r\n".encode())
    options = [*BUDGET, "--max-new-tokens", "4", "--json"]
    report = json.loads(run("generate", "--prompt-file", str(file), *options).out)
    alone = json.loads(run("generate", prompt, *options).out)
    assert (report["prompt"], report["text"]) == (prompt, alone["text"])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{prompt}\n".encode())))
    assert json.loads(run("generate", "--prompt-file", "-", *options).out)["prompt"] == prompt
    both = ["--prompt-file", str(file), "--prompts", str(file)]
    assert "give a PROMPT, --prompt-file FILE or --prompts" in one_line(run("generate", *both))
    assert "cannot read nowhere" in one_line(run("generate", "--prompt-file", "nowhere"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{prompt}\n".encode())))
    assert json.loads(run("generate", "-", *options).out)["prompt"] == prompt
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x" * 16_000_001)))
    assert "more than 16 MB" in one_line(run("generate", "-"))
    file.write_bytes(b"a\0b")
    assert "is not text: byte 1 is zero" in one_line(run("generate", "--prompt-file", str(file)))


def test_generate_json_has_the_contracts_keys(run):
    done = run(
        *["generate", "The sea", "--schedule", "random", *BUDGET],
        *["--max-new-tokens", "6", "--seed", "3", "--json"],
    )
    assert done.status == 0
    report = json.loads(done.out)  # nothing but the JSON
    assert done.err == "reading the model\npreparing kernels\n"
    assert report["prompt"] == "The sea"
    assert report["text"] == "".join(event["text"] for event in report["events"])
    assert (report["model"], report["dtype"]) == ("fake-model", "float32")
    assert [event["type"] for event in report["events"]] == ["token"] * 6
    assert set(report["spend"]) == set(AXIS_FIELDS)
    assert report["requested"] == dict(zip(AXIS_FIELDS, (0.5, 0.6, 8.0), strict=True))
    totals = {"flops", "bytes_read", "dense_flops", "dense_bytes_read", "tokens", "finish_reason"}
    assert totals <= set(report["totals"])
    assert report["totals"]["tokens"] == 6
    timings = {"load_ms", "prefill_ms", "decode_ms", "tokens_per_s", "ms_per_token"}
    assert timings == set(report["timings"])
    config = from_json(GenerationConfig, report["config"])
    assert config.schedule.kind == "random"
    assert config.schedule.seed == config.sampling.seed == 3


def test_a_generation_as_json_can_be_imported_listed_and_exported(run, tmp_path):
    file, place = tmp_path / "run.json", ["--data-dir", str(tmp_path / "data")]
    file.write_text(run("generate", "The sea", *BUDGET, "--shadow", "--json").out)
    made = json.loads(run("import", str(file), "--json", *place).out)
    assert made["kind"] == "run"
    (listed,) = json.loads(run("runs", "list", "--json", *place).out)["runs"]
    assert (listed["id"], listed["title"]) == (made["id"], "The sea")
    assert f"{made['id']}  " in run("runs", "list", "--query", "sea", *place).out
    assert run("runs", "list", "--kind", "inspection", *place).out == "No run is saved.\n"
    exported = json.loads(run("export", made["id"], "-", "--format", "json", *place).out)
    assert exported["events"] == json.loads(file.read_text())["events"]
    assert run("runs", "list", "--limit", "0", *place).status != 0
    with closing(sqlite3.connect(tmp_path / "data" / "sol.sqlite3")) as database, database:
        database.execute("UPDATE runs SET config = ?", (b'{"schedule": {"budget": 5}}',))
    assert "damaged; The sea" in run("runs", "list", *place).out


def test_every_option_reaches_the_configuration(run):
    done = run(
        *["generate", "x", "--json", "--schedule", "emc", "--quant-site", "mlp_input"],
        *["--episode-steps", "4", "--shadow", "--max-new-tokens", "2"],
        *["--temperature", "0.7", "--top-k", "5", "--top-p", "0.9", "--repetition-penalty", "1.1"],
        *["--chat", "--stop", "END", "--stop", "\n\n", "--ignore-eos"],
    )
    config = json.loads(done.out)["config"]
    assert config["grid"]["quant_site"] == "mlp_input"
    assert config["side_rows"][0]["name"] == "dense"
    assert list(config["sampling"].values()) == [0.7, 5, 0.9, 1.1, 0]
    assert config["stop_strings"] == ["END", "\n\n"]
    flags = ("episode_steps", "max_new_tokens", "chat", "ignore_end_of_text")
    assert [config[flag] for flag in flags] == [4, 2, True, True]
    dense = json.loads(run("generate", "x", "--schedule", "dense", "--keep", "0.5", "--json").out)
    assert list(dense["requested"].values()) == [1.0, 1.0, 16.0]


def test_text_is_plain_when_nobody_looks_at_a_terminal(run, engine):
    engine.tokens = (" a", "\x1b]0;owned\x07", "\r", "\n", " b")
    done = run("generate", "x", "--max-new-tokens", "5", "--shadow", "--keep", "0.5")
    assert done.status == 0
    assert "\x1b" not in done.out
    assert "\r" not in done.out
    assert done.out.startswith(" a\\x1b]0;owned\\x07\\r\n b\n\n")
    assert "KL to dense" in done.out
    of_bytes = run("generate", "x", "--max-new-tokens", "5", "--budget", "80%")
    assert re.search(r"bytes, share of the full model +\d\.\d\d +0\.80\n", of_bytes.out)
    assert re.search(r"expected  (same text|small changes) \(KL ", of_bytes.err)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--budget", "500%"], "a share such as 60%"),
        (["--keep", "nan"], "nan"),
        (["--keep", "0.05", "--grid", "paper"], "0.05"),
        (["--schedule", "foo"], "foo"),
        (["--temperature", "nan"], "nan"),
        (["--frobnicate"], "--frobnicate"),
        (["--schedule", "dense", "--keep", "nan"], "nan"),
    ],
)
def test_bad_values_are_one_line_and_status_2(run, arguments, named):
    done = run("generate", "x", *arguments)
    assert done.status == 2
    assert named in one_line(done)


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help(run, command):
    done = run(*filter(None, [command]), "--help")
    assert done.status == 0
    assert "usage: launch.py" in done.out


def test_serve_is_the_default_and_test_passes_unknown_arguments_on():
    for argv in ([], ["--port", "0"]):
        assert cli.parse(argv).command == "serve"
    args = cli.parse(["test", "-k", "name", "--fast", "tests/app"])
    assert (args.fast, args.rest) == (True, ["-k", "name", "tests/app"])


def test_engine_errors_are_one_line_and_status_1(run, monkeypatch):
    def load(name, **_):
        raise ModelLoadError(f"no model {name!r}:\nit is not there")

    monkeypatch.setattr("sol_core.generation.warm_up.load_warm", load)
    done = run("generate", "x", "--model", "nowhere")
    assert done.status == 1
    assert one_line(done) == "error: no model 'nowhere': it is not there"
    monkeypatch.setenv("SOL_DEBUG", "1")
    with pytest.raises(ModelLoadError):
        run("generate", "x")


def test_score_mirrors_the_files_shape(run, tmp_path, monkeypatch):
    made_on = {"dtype": "float32"}
    monkeypatch.setattr("sol_core.models.provenance.made_on", lambda model: made_on)
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"about": "x", "cases": [CASE, {**CASE, "extra": 1}]}), "utf-8")
    expected = {"cases": [{"nll": [[0.25]]}] * 2, "made_on": made_on}
    assert json.loads(run("score", str(path), "--json").out) == expected
    path.write_text(json.dumps([CASE]), "utf-8")
    assert json.loads(run("score", str(path), "--json").out) == [{"nll": [[0.25]]}]
    assert "0.2500" in run("score", str(path)).out


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"{", "not valid JSON"),
        (b"3", "list of cases"),
        (json.dumps([CASE, {**CASE, "context_len": 3}]).encode(), "case 2"),
        (json.dumps([{**CASE, "schedules": [[[math.nan, 1.0, 16]]]}]).encode(), "nan"),
    ],
)
def test_bad_case_files(run, tmp_path, content, named):
    path = tmp_path / "cases.json"
    path.write_bytes(content)
    done = run("score", str(path), "--json")
    assert done.status in (1, 2)
    assert named in one_line(done)


def test_doctor_creates_nothing_and_knows_the_versions(run, tmp_path):
    done = run("doctor", "--json", "--data-dir", str(tmp_path / "none"))
    findings = json.loads(done.out)
    assert findings["missing"] == []
    assert done.status == 0
    assert findings["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert findings["device"]["kernels"] == "compiled"
    assert findings["model"]["state"].startswith("not fetched yet")
    assert findings["database"]["state"].startswith("not there yet")
    assert not (tmp_path / "none").exists()
    assert "Nothing is missing." in run("doctor").out
    done = run("doctor", "--model", "no-such-model")
    assert (done.status, "no-such-model" in done.out) == (1, True)


def test_doctor_reads_the_database_and_finds_damage(run, tmp_path):
    from storage import open_store

    path = tmp_path / "data" / "sol.sqlite3"
    with open_store(path) as store:
        store.runs.create("me", "hello", "m", "dense", {})
    database = json.loads(run("doctor", "--json").out)["database"]
    assert (database["state"], database["runs"]) == ("ready", 1)
    path.write_bytes(b"no database " * 1000)
    for name in ("sol.sqlite3-wal", "sol.sqlite3-shm"):
        (path.parent / name).unlink(missing_ok=True)
    done = run("doctor", "--json")
    assert done.status == 1
    assert "damaged" in json.loads(done.out)["missing"][0]
    assert path.read_bytes().startswith(b"no database")


@pytest.mark.model
def test_interrupt_and_broken_pipe_are_quiet(model_data_dir):
    asked = ["generate", "Once upon a time", "--ignore-eos", "--max-new-tokens", "2000"]
    command = [PROJECT / "launch.py", *asked, "--data-dir", model_data_dir]
    with started(*command, OMP_NUM_THREADS="1") as process:
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    with started(*command, OMP_NUM_THREADS="1") as process:
        assert process.stdout.read(1)
        process.stdout.close()
        process.wait(60)
        err = process.stderr.read()
    assert process.returncode == 141
    assert "Traceback" not in err
