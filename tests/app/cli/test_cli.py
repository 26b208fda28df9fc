"""The command line's contract: what goes to stdout, what to stderr, and the exit status."""

from __future__ import annotations

import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from app.cli import main as cli
from sol_core.actions import AXIS_FIELDS
from sol_core.config import GenerationConfig
from sol_core.errors import ModelLoadError
from sol_core.events import TokenEvent
from sol_core.fields import from_json
from sol_core.files.gguf_folder import make_manifest, write_manifest
from sol_core.files.places import DEFAULT_MODEL
from tests.app.tiny_project import PROJECT
from tests.support.fake_engine import FAKE_MODEL, FakeEngine

Run = Callable[..., "Finished"]
CASE = {"input_ids": [1, 2, 3, 4], "context_len": 2, "schedules": [[[0.5, 1.0, 16]]]}
BUDGET = ["--keep", "0.5", "--channels", "0.6", "--bits", "8"]


class Finished(SimpleNamespace):
    """Exit status and output of one command."""

    status: int
    out: str
    err: str


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """A stand-in for the engine, which ``generate`` finds in its place."""
    fake = FakeEngine()
    model = SimpleNamespace(**(vars(FAKE_MODEL) | {"spec": SimpleNamespace(vocab_size=10)}))

    def load(name: str, *, on_progress: Callable[[str, float], None], **_: Any) -> Any:
        on_progress("reading the model", 0.5)
        return model

    def generate(model: Any, prompt: str, config: GenerationConfig, policies: Any) -> Any:
        return fake(model, prompt, config, lambda: False)

    monkeypatch.setattr("sol_core.models.loading.load_language_model", load)
    monkeypatch.setattr("sol_core.models.tuning.tune", lambda *_: None)

    def generate_many(
        model: Any, prompts: list[str], config: GenerationConfig, policies: Any
    ) -> Any:
        for number, prompt in reversed(list(enumerate(prompts))):
            for event in fake(model, prompt, config, lambda: False):
                yield number, event

    monkeypatch.setattr("sol_core.generation.engine.generate", generate)
    monkeypatch.setattr("sol_core.generation.engine.generate_many", generate_many)
    monkeypatch.setattr(
        "sol_core.comparing.scoring.score_case",
        lambda model, case, quant_site: [[0.25] * case.num_steps for _ in case.schedules],
    )
    return fake


@pytest.fixture
def run(
    engine: FakeEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Run]:
    """Run a command in this process, on a data directory of its own."""
    before = dict(os.environ)
    monkeypatch.setenv("SOL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("SOL_DEBUG", raising=False)

    def call(*argv: str) -> Finished:
        try:
            status = cli.main(argv)
        except SystemExit as leave:  # argparse: help and usage errors
            status = int(leave.code or 0)
        return Finished(status=status, **capsys.readouterr()._asdict())

    yield call
    os.environ.clear()
    os.environ.update(before)


def one_line(done: Finished) -> str:
    assert done.out == ""
    lines = str(done.err).splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("error: ")
    return lines[0]


def test_generate_takes_a_file_of_prompts(run: Run, tmp_path: Path) -> None:
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


def test_generate_takes_a_long_prompt_from_a_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    file.write_bytes(b"a\0b")
    assert "is not text: byte 1 is zero" in one_line(run("generate", "--prompt-file", str(file)))


def test_generate_json_has_the_contracts_keys(run: Run) -> None:
    done = run(
        *["generate", "The sea", "--schedule", "random", *BUDGET],
        *["--max-new-tokens", "6", "--seed", "3", "--json"],
    )
    assert done.status == 0
    report = json.loads(done.out)  # nothing but the JSON
    assert done.err == "reading the model\npreparing kernels\n"
    assert report["prompt"] == "The sea"
    assert report["text"] == "".join(event["text"] for event in report["events"])
    assert report["model"] == "fake-model"
    assert report["dtype"] == "float32"
    assert len(report["events"]) == 6
    assert report["events"][0]["type"] == "token"
    assert report["events"][0]["cost"]["flops"] > 0
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


def test_a_generation_as_json_can_be_imported_listed_and_exported(run: Run, tmp_path: Path) -> None:
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


def test_every_option_reaches_the_configuration(run: Run) -> None:
    done = run(
        *["generate", "x", "--json", "--schedule", "emc", "--quant-site", "mlp_input"],
        *["--episode-steps", "4", "--shadow", "--max-new-tokens", "2"],
        *["--temperature", "0.7", "--top-k", "5", "--top-p", "0.9", "--repetition-penalty", "1.1"],
        *["--chat", "--stop", "END", "--stop", "\n\n", "--ignore-eos"],
    )
    config = json.loads(done.out)["config"]
    assert config["grid"]["quant_site"] == "mlp_input"
    assert [config[key] for key in ("episode_steps", "max_new_tokens")] == [4, 2]
    assert config["side_rows"][0]["name"] == "dense"
    assert config["sampling"] == {
        "temperature": 0.7,
        "top_k": 5,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "seed": 0,
    }
    assert config["stop_strings"] == ["END", "\n\n"]
    assert config["chat"]
    assert config["ignore_end_of_text"]


def test_dense_requests_everything_whatever_the_budget_says(run: Run) -> None:
    done = run("generate", "x", "--schedule", "dense", "--keep", "0.5", "--json")
    assert json.loads(done.out)["requested"] == dict(
        zip(AXIS_FIELDS, (1.0, 1.0, 16.0), strict=True)
    )


def test_nan_never_reaches_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(model: Any, prompt: str, config: GenerationConfig, policies: Any) -> Any:
        for event in FakeEngine()(model, prompt, config, lambda: False):
            is_token = isinstance(event, TokenEvent)
            yield replace(event, surprisal=math.inf, entropy=math.nan) if is_token else event

    monkeypatch.setattr("sol_core.generation.engine.generate", poisoned)
    done = run("generate", "x", "--max-new-tokens", "1", "--json")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in JSON")

    event = json.loads(done.out, parse_constant=refuse)["events"][0]
    assert event["surprisal"] is None
    assert event["entropy"] is None


def test_text_is_plain_when_nobody_looks_at_a_terminal(run: Run, engine: FakeEngine) -> None:
    engine.tokens = (" a", "\x1b]0;owned\x07", "\r", "\n", " b")
    done = run("generate", "x", "--max-new-tokens", "5", "--shadow", "--keep", "0.5")
    assert done.status == 0
    assert "\x1b" not in done.out
    assert "\r" not in done.out
    assert done.out.startswith(" a\\x1b]0;owned\\x07\\r\n b\n\n")
    for expected in ("computed", "measured", "spent   budget", "KL to dense", "saved"):
        assert expected in done.out
    assert "MLP, share of MLP bytes" in done.out
    paper = run("generate", "x", "--max-new-tokens", "5", "--grid", "paper")
    assert "MLP, share of MLP inputs" in paper.out
    of_bytes = run("generate", "x", "--max-new-tokens", "5", "--budget", "80%")
    assert re.search(r"bytes, share of the full model +\d\.\d\d +0\.80\n", of_bytes.out)
    assert re.search(r"MLP, share of MLP bytes +\d\.\d\d\n", of_bytes.out), "no budget"


def test_prompt_from_stdin(run: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    for content, prompt in ((b"from a pipe\n", "from a pipe"), (b"\xef\xbb\xbfbom\r\n", "bom")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert run("generate", "-", "--json").status == 0
        assert engine.calls[-1] == prompt
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe")))
    assert "not UTF-8" in one_line(run("generate", "-"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x" * 16_000_001)))
    assert "more than 16 MB" in one_line(run("generate", "-"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--keep", "nan"], "nan"),
        (["--keep", "0"], "0"),
        (["--keep", "1.5"], "1.5"),
        (["--keep", "0.04"], "0.04"),
        (["--keep", "0.05", "--grid", "paper"], "0.05"),
        (["--grid", "foo"], "foo"),
        (["--channels", "inf"], "inf"),
        (["--channels", "0.25"], "0.25"),
        (["--bits", "3.5"], "3.5"),
        (["--bits", "17"], "17"),
        (["--bits", "many"], "many"),
        (["--schedule", "foo"], "foo"),
        (["--quant-site", "foo"], "foo"),
        (["--dtype", "int3"], "int3"),
        (["--temperature", "nan"], "nan"),
        (["--top-p", "0"], "0"),
        (["--top-k", "-1"], "-1"),
        (["--repetition-penalty", "0"], "0"),
        (["--max-new-tokens", "0"], "0"),
        (["--episode-steps", "0"], "0"),
        (["--seed", "-1"], "-1"),
        (["--stop", ""], "stop string"),
        (["--frobnicate"], "--frobnicate"),
        (["--schedule", "dense", "--keep", "nan"], "nan"),
    ],
)
def test_bad_values_are_one_line_and_status_2(run: Run, arguments: list[str], named: str) -> None:
    done = run("generate", "x", *arguments)
    assert done.status == 2
    assert named in one_line(done)


def test_fractional_mean_bits_are_a_budget_like_any_other(run: Run) -> None:
    done = run("generate", "x", "--bits", "7.5", "--json")
    assert json.loads(done.out)["requested"]["bit_width"] == 7.5


@pytest.mark.parametrize(
    "arguments",
    [["bogus"], ["--port", "70000"], ["--port", "x"], ["bench", "encode"], ["generate"], ["score"]],
)
def test_bad_commands(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.status == 2
    one_line(done)


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help(run: Run, command: str) -> None:
    done = run(*filter(None, [command]), "--help")
    assert done.status == 0
    assert "usage: launch.py" in done.out


def test_serve_is_what_happens_without_a_command() -> None:
    for argv in ([], ["--port", "0"], ["serve", "--no-browser"]):
        assert cli.parse(argv).command == "serve"


def test_test_passes_unknown_arguments_on() -> None:
    args = cli.parse(["test", "-k", "name", "--fast", "tests/app"])
    assert args.fast
    assert args.rest == ["-k", "name", "tests/app"]


def test_engine_errors_are_one_line_and_status_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, **_: Any) -> Any:
        raise ModelLoadError(f"no model {name!r}:\nit is not there")

    monkeypatch.setattr("sol_core.models.loading.load_language_model", load)
    monkeypatch.setattr("sol_core.models.tuning.tune", lambda *_: None)
    done = run("generate", "x", "--model", "nowhere")
    assert done.status == 1
    assert one_line(done) == "error: no model 'nowhere': it is not there"
    monkeypatch.setenv("SOL_DEBUG", "1")
    with pytest.raises(ModelLoadError):
        run("generate", "x")


def test_unusable_data_directory(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("generate", "x", "--data-dir", str(tmp_path / "file"))
    assert done.status == 1
    assert "--data-dir" in one_line(done)


def test_interrupt_is_130(run: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("sol_core.generation.engine.generate", generate)
    done = run("generate", "x", "--json")
    assert done.status == 130
    assert done.out == ""


def test_score_mirrors_the_files_shape(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"about": "x", "cases": [CASE, {**CASE, "extra": 1}]}), "utf-8")
    assert json.loads(run("score", str(path), "--json").out) == {"cases": [{"nll": [[0.25]]}] * 2}
    path.write_text(json.dumps([CASE]), "utf-8")
    assert json.loads(run("score", str(path), "--json").out) == [{"nll": [[0.25]]}]
    table = run("score", str(path)).out
    assert "mean NLL" in table
    assert "0.2500" in table


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"3", "list of cases"),
        (b'{"case": []}', "list of cases"),
        (b"[]", "no cases"),
        (b"[1]", "case 1"),
        (json.dumps([CASE, {**CASE, "context_len": 3}]).encode(), "case 2"),
        (json.dumps([{**CASE, "input_ids": [1, -2, 3, 4]}]).encode(), "input_ids"),
        (json.dumps([{**CASE, "input_ids": [1, True, 3, 4]}]).encode(), "input_ids"),
        (json.dumps([{**CASE, "schedules": []}]).encode(), "schedules"),
        (json.dumps([{**CASE, "schedules": [[[0.5, 1.0]]]}]).encode(), "action"),
        (json.dumps([{**CASE, "schedules": [[[1.5, 1.0, 16]]]}]).encode(), "1.5"),
        (json.dumps([{**CASE, "schedules": [[[math.nan, 1.0, 16]]]}]).encode(), "nan"),
        (json.dumps([{**CASE, "schedules": [[[1.0, 1.0, 7.5]]]}]).encode(), "7.5"),
        (json.dumps([{**CASE, "page_size": 0}]).encode(), "page_size"),
    ],
)
def test_bad_case_files(run: Run, tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "cases.json"
    path.write_bytes(content)
    done = run("score", str(path), "--json")
    assert done.status in (1, 2)
    assert named in one_line(done)


def test_missing_case_file(run: Run, tmp_path: Path) -> None:
    assert "No such file" in one_line(run("score", str(tmp_path / "none.json")))
    assert "cannot read" in one_line(run("score", str(tmp_path)))


def test_doctor_creates_nothing_and_knows_the_versions(run: Run, tmp_path: Path) -> None:
    done = run("doctor", "--json")
    findings = json.loads(done.out)
    assert findings["missing"] == []
    assert done.status == 0
    assert findings["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert findings["packages"]["torch"]
    assert findings["device"]["dtype"] in ("float32", "bfloat16")
    assert findings["device"]["kernels"] == "compiled"
    assert findings["model"]["state"].startswith("not fetched yet")
    assert findings["database"]["state"].startswith("not there yet")
    assert not (tmp_path / "data").exists()
    assert "Nothing is missing." in run("doctor").out


def test_doctor_reads_the_database_and_finds_damage(run: Run, tmp_path: Path) -> None:
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


def test_doctor_knows_a_model_that_was_converted_before_blocks_were_kept(
    run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "data" / "models" / DEFAULT_MODEL
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    save_file({"weight": torch.zeros(2)}, folder / "model.safetensors")
    write_manifest(folder, make_manifest(folder, DEFAULT_MODEL, "a.whl", "0" * 64))
    state = json.loads(run("doctor", "--json").out)["model"]["state"]
    assert state.startswith("ready; ")
    assert "doctor --repair" in state
    (folder / "quantised.safetensors").touch()
    assert json.loads(run("doctor", "--json").out)["model"]["state"] == "ready"


def test_doctor_names_an_unknown_model(run: Run) -> None:
    done = run("doctor", "--model", "no-such-model")
    assert done.status == 1
    assert "no-such-model" in done.out


def launch(*arguments: str, data_dir: Path, **options: Any) -> Any:
    """``launch.py`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(PROJECT / "launch.py"), *arguments],
        env={**os.environ, "SOL_DATA_DIR": str(data_dir), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.model
def test_generate_on_the_real_model(model_data_dir: Path) -> None:
    arguments = ["generate", "The capital of France is", *BUDGET, "--max-new-tokens", "8"]
    with launch(*arguments, "--shadow", "--json", data_dir=model_data_dir) as process:
        out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert report["totals"]["tokens"] == len(report["events"])
    assert report["spend"]["keep_fraction"] == pytest.approx(0.5, abs=0.01)
    assert report["spend"]["channel_keep_ratio"] == pytest.approx(0.6, abs=0.01)
    assert report["totals"]["flops"] < report["totals"]["dense_flops"]
    assert all(event["kl_to_dense"] is not None for event in report["events"])


@pytest.mark.model
def test_score_on_the_real_model_mirrors_the_file(model_data_dir: Path, tmp_path: Path) -> None:
    ids = [504, 3575, 282, 4649, 314, 7042, 30, 198]
    case = {
        "input_ids": ids,
        "context_len": 4,
        "schedules": [[[1, 1, 16]] * 3, [[0.5, 0.5, 8]] * 3],
    }
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"cases": [case]}), "utf-8")
    options = ("--dtype", "float32", "--quant-site", "mlp_input", "--json")
    with launch("score", str(path), *options, data_dir=model_data_dir) as process:
        out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    (scores,) = json.loads(out)["cases"]
    assert [len(row) for row in scores["nll"]] == [3, 3]
    assert all(math.isfinite(value) for row in scores["nll"] for value in row)


@pytest.mark.model
def test_interrupt_and_broken_pipe_are_quiet(model_data_dir: Path) -> None:
    arguments = ["generate", "Once upon a time", "--ignore-eos", "--max-new-tokens", "2000"]
    with launch(*arguments, data_dir=model_data_dir) as process:
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    with launch(*arguments, data_dir=model_data_dir) as process:
        assert process.stdout.read(1)
        process.stdout.close()
        deadline = time.monotonic() + 60
        while process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        err = process.stderr.read()
    assert process.returncode == 141
    assert "Traceback" not in err
