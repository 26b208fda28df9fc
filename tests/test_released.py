"""Files of an earlier release that must open: database, exports, policy, interrupted jobs.

``tests/released/`` was written before the tasks had their name and is never edited. Its
configurations hold ``dense_positions``, ``sampled`` and ``refresh``, its jobs the kind "benchmark".
"""

import json
import shutil
from pathlib import Path

import pytest

from app.host.database import open_database
from app.host.paths import DataDir
from app.jobs.engines import ENGINES
from app.pages.explore import form_from_config as explore_form
from app.pages.lab.accuracy_view import accuracy_view
from app.pages.lab.jobs import TASKS_FORM
from app.results.figures import result_view
from app.sharing.kinds import export, import_documents
from sol_core.accuracy.config import TasksConfig
from sol_core.actions import ActionGrid
from sol_core.config import GenerationConfig
from sol_core.errors import ConfigError, PolicyError
from sol_core.evaluation.config import EvaluationConfig
from sol_core.fields import from_json
from sol_core.files.staging import sha256_of
from sol_core.inspection.records import InspectionConfig
from sol_core.policy.files.archive import unpack_policy
from sol_core.policy.policy import load_policy
from sol_core.progress import WorkProgress
from sol_core.training.config import TrainConfig
from storage import TASKS_JOB
from tests.sol_core.accuracy.test_tasks import BUDGETS
from tests.sol_core.evaluation_stand_ins import contender, evaluate_contenders, random_texts
from tests.support.tiny_language_model import make_language_model

RELEASED = Path(__file__).with_name("released")
OWNER = "a" * 32
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    return make_language_model()


@pytest.fixture
def store(tmp_path):
    """The released database, in a data directory of its own."""
    place = DataDir(tmp_path / "data")
    place.prepare()
    shutil.copyfile(RELEASED / "database.sqlite", place.root / "sol.sqlite3")
    with open_database(place) as opened:
        yield opened


def test_runs_open_and_their_settings_are_read(store):
    runs = [run for run in store.runs.list() if run.kind == "generation"]
    assert len(runs) == 5
    for run in runs:
        assert run.config["dense_positions"] == 0
        assert run.config["schedule"]["sampled"] is False
        config = from_json(GenerationConfig, run.config)
        assert config.schedule.kind == run.config["schedule"]["kind"]
        assert explore_form(run.config)
        ((_, copied),) = import_documents(
            store, OWNER, export(store, "run", run.id, "json").text.encode()
        )
        events = store.runs.events(run.id)
        assert not any(event.pop("refreshed") for event in events)  # no field of today
        assert _holds(store.runs.events(copied), events)
    (inspected,) = [run for run in store.runs.list() if run.kind == "inspection"]
    assert inspected.config["schedules"][0]["sampled"] is False
    assert len(from_json(InspectionConfig, inspected.config).schedules) == 3


def test_a_former_field_with_a_value_is_refused():
    with pytest.raises(ConfigError, match="dense_positions"):
        from_json(GenerationConfig, {"dense_positions": 4})
    with pytest.raises(ConfigError, match="sampled"):
        from_json(GenerationConfig, {"schedule": {"sampled": True}})
    assert from_json(GenerationConfig, {"refresh": True}) == GenerationConfig()  # left no trace
    with pytest.raises(ConfigError, match=r"^grpo\.clip is a setting of .* 0\.2 alone"):
        from_json(TrainConfig, {"grpo": {"clip": 0.3}})
    former = {"grpo": {"clip": 0.2, "penalty": 100}, "warm_start": {"schedules": 2}}
    former["checkpoint_seconds"] = 5
    assert from_json(TrainConfig, former) == TrainConfig()


@pytest.mark.parametrize("kind", ["run", "inspection"])
def test_exports_are_imported(store, kind):
    document = (RELEASED / f"{kind}.json").read_bytes()
    ((found, made),) = import_documents(store, OWNER, document)
    assert found == kind
    again = json.loads(export(store, kind, made, "json").text)
    assert again.keys() == json.loads(document).keys() | {"program"}  # since it is named


def test_jobs_open_and_paused_ones_go_on(store):
    jobs = {job.title: job for job in store.jobs.list()}
    done, paused = jobs["finished accuracy"], jobs["paused accuracy"]
    assert done.kind == paused.kind == TASKS_JOB
    assert accuracy_view(done.result)["tasks"]
    config = from_json(TasksConfig, dict(done.params["config"]))
    assert TASKS_FORM.values_of(config)["tasks"] == ["piqa"]
    evaluation = jobs["finished evaluation"]
    assert result_view(evaluation.result)
    training = jobs["paused training"]
    assert [row["step"] for row in store.jobs.metrics(training.id)] == [1, 2, 3]
    assert store.jobs.samples(training.id)
    for job in (paused, training):
        assert store.jobs.resume(job.id).status == "queued"
        assert job.kind in ENGINES


def test_a_policy_without_a_checksum_is_refused_and_one_of_its_weights_is_taken(
    model, tmp_path, caplog
):
    unpack_policy(RELEASED / "policy.zip", tmp_path)
    with pytest.raises(PolicyError, match=r"has no weights_sha256.*copy it again.*train it again"):
        load_policy(tmp_path, model)
    record = json.loads((tmp_path / "config.json").read_text("utf-8"))
    record["weights_sha256"] = sha256_of(tmp_path / "model.safetensors")  # as later ones had it
    (tmp_path / "config.json").write_text(json.dumps(record), "utf-8")
    policy = load_policy(tmp_path, model)
    assert policy.info.name == "tiny"
    assert "covers its weights and not its prices" in caplog.text
    caplog.clear()
    policy.save_pretrained(tmp_path)
    load_policy(tmp_path, model)
    assert not caplog.text


def test_an_interrupted_measurement_goes_on(model, tmp_path):
    """An evaluation at its third batch: the first two are found in the files of that release."""
    config = EvaluationConfig(
        budgets=BUDGETS, baselines=("random:60",), texts=3, context=26, steps=8
    )
    grid = ActionGrid(page_size=4)
    texts, resumed = random_texts(3, config.block_len), tmp_path / "partial"
    shutil.copytree(RELEASED / "paused-evaluation", resumed)
    whole, rest = (
        list(evaluate_contenders(model, [contender(grid=grid)[0]], config, texts, partial=partial))
        for partial in (None, resumed)
    )
    reports = [sum(isinstance(one, WorkProgress) for one in events) for events in (whole, rest)]
    assert reports[0] - reports[1] == 2
    assert result(rest) == pytest.approx(result(whole), rel=1e-3)


def result(events):
    """Spend and scores, flat; the machine that wrote the files may round otherwise."""
    last = events[-1]
    return list(_numbers({k: v for k, v in last.result.items() if k != "elapsed_s"}))


def _numbers(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)):
        yield float(value)


def _holds(new, old):
    """Return whether all that a release stored is there; import adds later fields' defaults."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(_holds(new.get(key), old[key]) for key in old)
    if isinstance(old, list):
        return isinstance(new, list) and len(new) == len(old) and all(map(_holds, new, old))
    return bool(new == old)
