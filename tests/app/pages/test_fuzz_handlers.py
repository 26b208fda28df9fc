"""Every handler of every tab, asked over HTTP what no page asks.

The fields that a handler takes are read from its code (``call_schemas.py``), so a new handler is
fuzzed without a line here. Whatever is asked, an answer comes with status 200: no traceback, and on
a server with several visitors nothing of another one's. ``SOL_FUZZ_EXAMPLES`` asks more often.
"""

from __future__ import annotations

import copy
import json
import os
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import hypothesis
import pytest
from hypothesis import strategies as st

from app.host.errors import AppError
from app.pages.explore import DEFAULT_FORM
from app.pages.inspect import DEFAULT_FORM as INSPECTION_SETTINGS
from app.pages.lab.jobs import LAB_JOBS
from app.policies.library import PolicyLibrary
from tests.app.call_schemas import Call, all_calls
from tests.app.fake_server import FakeServer, serving
from tests.app.http_page import HttpPage
from tests.app.page_calls import ANNA, BEN
from tests.support.fake_engine import FakeEngine
from tests.support.job_samples import evaluation_result, metric_row, train_sample

# Gradio leaves the sockets that it probes ports with to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(300),
]
EXAMPLES = int(os.environ.get("SOL_FUZZ_EXAMPLES", "20"))
MARKER = "zebrafinch"  # in all that is Ben's
SAME_NAME = "notes.txt"  # of a file that both have

WHOLE = st.sampled_from(
    [0, 1, -1, 3, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**400]
)
NUMBERS = st.sampled_from([0.5, 1e300, -1e300, 1e-320, float("inf"), float("-inf"), float("nan")])
TEXTS = st.one_of(
    st.sampled_from(
        ["", "\ud800", "\udfff\ud83d", "\0", "..", "/etc/passwd", "a" * 5000, "\U00020000" * 80,
         "policy:", "policy:default", "__proto__", "{}", "json", "run", "comparison", "0", "%s"]
    ),
    st.text(st.characters(), max_size=12),
)  # fmt: skip
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), WHOLE, NUMBERS, TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


DEEP = st.sampled_from([20, 40, 300]).map(nested)
WILD = ANYTHING | DEEP
OF_TYPE = {
    "str": TEXTS, "int": WHOLE, "bool": st.booleans(), "float": NUMBERS,
    "dict": st.dictionaries(TEXTS, ANYTHING, max_size=3), "list": st.lists(ANYTHING, max_size=4),
    "any": ANYTHING,
}  # fmt: skip
CORPORA = [
    {"kind": "builtin", "name": ""},
    {"kind": "upload", "name": SAME_NAME},
    {"kind": "hub", "name": "a/b"},
    {"kind": "path", "name": "/etc"},
]
# By the kind of job.
LAB_VALUES = {kind: job.form.values_of(job.form.config()) for kind, job in LAB_JOBS.items()}
IDS = ("run_id", "job_id", "a", "b", "id")
ACTION = [0.5, 0.6, 8]


@dataclass(frozen=True)
class Things:
    """Ids that exist, of both visitors, and good values of the fields that have a form."""

    ids: list[str]
    numbers: list[int]

    VALUES: ClassVar[dict[str, list[Any]]] = {
        "start_run": [DEFAULT_FORM],
        "start_inspection": [INSPECTION_SETTINGS],
        "start_job": list(LAB_VALUES.values()),
    }
    FIELDS: ClassVar[dict[str, list[Any]]] = {
        "corpus": CORPORA, "budget": [ACTION], "actions": [[ACTION, ACTION]],
        "policies": [["default"]], "policy": ["default"], "name": ["mine", "default", SAME_NAME],
        "kind": ["train", "evaluate", "benchmark", "run", "comparison", "lens"],
        "form": ["json", "csv", "html"],
        "experiment": ["decode_steps", "pages", "channels", "bits", "spend", "massive"],
        "parameters": [{}], "limit": [5, 100], "cursor": [0, -1], "index": [0, 5],
        "token_id": [7, 900], "owner": [ANNA],
    }  # fmt: skip

    def good(self, call, field, kind):
        """Values that get past the first checks, as far as they are known."""
        if kind == "dict" and call.name in self.VALUES and field not in self.FIELDS:
            return self.VALUES[call.name]
        if field in self.FIELDS:
            return self.FIELDS[field]
        return list(self.ids) if kind in ("str", "any") else list(self.numbers)


@st.composite
def requests(draw, call, things):
    """A request that is right but for a few things."""
    request = {}
    for field, kind in call.fields.items():
        good = things.good(call, field, kind)
        if kind == "str" and field in IDS:
            good = list(things.ids)
        request[field] = copy.deepcopy(draw(st.sampled_from(good or [None])))
        if isinstance(request[field], (dict, list)) and draw(st.integers(0, 2)):
            _spoil(draw, request[field])
    for _ in range(draw(st.integers(0, 2)) if call.fields else 0):
        field = draw(st.sampled_from(sorted(call.fields)))
        if draw(st.integers(0, 5)) == 0:
            request.pop(field, None)
        else:
            request[field] = draw(OF_TYPE.get(call.fields[field], ANYTHING) | WILD)
    if draw(st.integers(0, 9)) == 0:
        request[draw(TEXTS)] = draw(WILD)
    return request


def _spoil(draw, value):
    """Put something wild at one place of a good value, or take the place away."""
    places = sorted(value) if isinstance(value, dict) else list(range(len(value)))
    if places:
        place = draw(st.sampled_from(places))
        is_number = isinstance(value[place], (int, float)) and draw(st.booleans())
        value[place] = draw(WHOLE | NUMBERS if is_number else TEXTS | WILD)
    if isinstance(value, dict) and draw(st.integers(0, 4)) == 0:
        value[draw(TEXTS)] = draw(ANYTHING)


def plant(services, owner, word):
    """Runs, jobs, uploads and what came of them of one visitor; ``word`` is in all their texts."""
    store, name = services.store, f"{word}.txt"
    run = store.runs.create(owner, f"{word} prompt", "fake-model", "static", {"about": word})
    store.runs.finish(run.id, "finished")
    folder = services.data_dir.corpora / "uploads" / (owner if services.is_shared else "")
    folder.mkdir(parents=True, exist_ok=True)
    for own in (name, SAME_NAME):
        (folder / own).write_text(f"{word} words")
    params = {"config": {"corpus": str(folder / name)}, "policies": ["default"], "name": word,
              "policy": "default", "model": "fake-model"}  # fmt: skip
    jobs = [store.jobs.create(kind, owner, f"{word} {kind}", params, worker="w")
            for kind in ("train", "evaluate", "benchmark")]  # fmt: skip
    store.jobs.append_metrics(jobs[0].id, [metric_row(1)])
    store.jobs.set_sample(jobs[0].id, train_sample(1, words=[word]))
    results = [{"policy": word}, evaluation_result() | {"corpus": name}, {"about": word}]
    for job, result in zip(jobs, results, strict=True):
        store.jobs.finish(job.id, "w", "succeeded", result=result)
    return Things([run.id, *(job.id for job in jobs), f"{run.id},{run.id}", f"{run.id}:0::"], [])


@dataclass(frozen=True)
class Target:
    """A server under attack."""

    server: FakeServer
    page: HttpPage
    calls: list[Call]
    things: Things
    is_shared: bool

    def check(self, call, request):
        """Ask; what was begun by it must have an answer too."""
        answer = self.ask(call.tab, call.name, request)
        if run_id := answer.get("run_id"):
            about = {"owner": ANNA, "run_id": run_id, "cursor": 0}
            self.ask(call.tab, "poll_run", about)
            self.ask(call.tab, "stop_run", about)
        if job_id := answer.get("job_id"):
            about = {"owner": ANNA, "job_id": job_id, "cursor": -1, "kind": request.get("kind")}
            for name in ("poll_job", "cancel_job", "job_settings", "delete_job"):
                self.ask(call.tab, name, about)

    def ask(self, tab, name, request):
        """An answer, with status 200 and nothing in it that is not Anna's."""
        status, text = self.page.raw(tab, name, request)
        if status != 200:
            time.sleep(0.05)  # the server closes the connection behind an error
        assert status == 200, f"{name} {request!r:.2000} → {status} {text[:300]}"
        assert "Traceback" not in text, text[:2000]
        if self.is_shared:
            at = text.find(MARKER)
            assert at < 0, f"{name} {request!r:.500} → {text[max(0, at - 300) : at + 300]}"
        return json.loads(text)


@pytest.fixture(scope="module", params=["own machine", "public"])
def target(request, tmp_path_factory):
    is_shared = request.param == "public"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOL_PUBLIC", str(int(is_shared)))
        patch.setenv("SOL_LIMITS", "jobs=1")
        for name in ("pull", "push"):  # nothing leaves this machine
            patch.setattr(PolicyLibrary, name, _offline)
        folder = tmp_path_factory.mktemp("fuzzed")
        with serving(folder, FakeEngine(repeat=False)) as server:
            theirs = plant(server.services, BEN, MARKER)
            mine = plant(server.services, ANNA, "sparrow")
            things = Things([*theirs.ids, *mine.ids, "nobody"], [0, 1, 3])
            yield Target(server, server.visitor(ANNA), all_calls(), things, is_shared)


def _offline(*arguments, **options):
    raise AppError("offline")


def test_every_handler_is_known_with_its_fields(target):
    fields = {call.name: set(call.fields) for call in target.calls}
    assert len(fields) >= 35
    assert fields["start_run"] == {"owner", "parent", "prompt", "settings"}
    assert fields["fork_run"] >= {"run_id", "index", "token_id"}


def test_nothing_that_is_asked_breaks_the_server_or_shows_what_is_others(target):
    began, failures = time.monotonic(), []
    for call in target.calls:
        try:
            _ask(target, call)
        except Exception as error:  # all handlers are asked, then all failures are told
            failures.append(f"{call.tab}.{call.name}: {error!s:.1500}")
    assert not failures, "\n\n".join(failures)
    alive = target.page.call("explore", "home")
    assert alive["model"]["state"] in ("ready", "loading")
    assert time.monotonic() - began < 240


def _ask(target, call):
    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(requests(call, target.things))
    def ask(request):
        target.check(call, request)

    ask()


def test_the_lists_still_answer_after_all_that(target):
    """What was stored can be shown: no page ends in an error for good."""
    about = {"owner": ANNA, "limit": 100, "kind": None}
    jobs = target.ask("lab", "list_jobs", about)["jobs"]
    for job in jobs:
        about = {"owner": ANNA, "job_id": job["id"], "cursor": -1}
        target.ask("lab", "poll_job", about)
    about = {"owner": ANNA, "query": "", "limit": 200}
    runs = target.ask("history", "list_runs", about)["runs"]
    for run in runs:
        about = {"owner": ANNA, "run_id": run["id"], "cursor": 0}
        target.ask("inspect" if run["kind"] == "inspection" else "explore", "poll_run", about)
    target.ask("lab", "all_policies", {})
    assert runs
