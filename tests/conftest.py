"""Shared fixtures: tiny random models that need no download, and the real default model."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import hypothesis
import pytest

from app.host.environment import kernel_cache_folder
from sol_core import limit_spinning

ROOT = Path(__file__).resolve().parents[1]

# What is ignored here, as under nohup or cron, would be by the processes that tests start, too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Triton decides at its import whether kernels are interpreted: without a GPU they must be.
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"


# Compiled kernels are kept out of the source tree, as ``launch.py`` does, and never stale. Numba
# reads the place when a test's module imports it.
KERNELS = Path(tempfile.gettempdir()) / "sol-test-kernels"
os.environ.setdefault("NUMBA_CACHE_DIR", str(kernel_cache_folder(KERNELS)))
os.environ.setdefault("TRITON_CACHE_DIR", str(KERNELS / "triton"))


def share_compiled_kernels(cache):
    """Let checkouts with the same kernels share their machine code: minutes of a core for each."""
    for folder in (ROOT / "kernels").glob("*/"):
        shared = cache / "of-any-checkout" / folder.name
        shared.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha1(str(folder).encode(), usedforsecurity=False).hexdigest()
        with contextlib.suppress(OSError):  # it has one of its own, or links are not to be had
            (cache / f"{folder.name}_{digest}").symlink_to(shared, target_is_directory=True)


share_compiled_kernels(Path(os.environ["NUMBA_CACHE_DIR"]))

# A busy machine's measured choice is not kept, so every process with a model would measure its own,
# seconds of it. No choice changes a number; ``test_tuning.py`` measures without this.
os.environ.setdefault("SOL_CPU_TUNING", "1,4")

# As every command does: with torch imported first, its threads would spin, and two of them on a
# busy machine took a hundred times as long.
limit_spinning()

os.environ.pop("SOL_DATABASE_URL", None)  # tests make databases of their own

# How long an example takes says something about the machine, not about the code; and where
# examples share a fixture, the test means it.
SHARED = [hypothesis.HealthCheck.function_scoped_fixture]
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=SHARED)
hypothesis.settings.load_profile("untimed")

# What a test with such a mark takes, about: only for the order of files among parallel processes.
SECONDS = {"slow": 40.0, "timeout": 20.0, "browser": 5.0, "model": 5.0}
PROCESSES_SECONDS, OTHER_SECONDS = 2.0, 0.1  # of one in a module that starts programs, or not


# What ``launch.py test --all`` runs beside the rest, before a release: minutes of a core for parts
# that seldom change, or once more what another test proves faster. ``test --since COMMIT``, as CI,
# adds those whose subject changed: by tests, the paths that they are about, beside themselves.
SET_UP = "launch.py pyproject.toml requirements.txt app/setup app/host MANIFEST.in"
RELEASE = {
    "browser/explore/test_what_if.py browser/pages": "app/web app/runs app/pages",
    "kernels/threads app/bench/test_other_tritons.py": "kernels app/bench",
    "test_held_to_avx2.py": "kernels sol_core/models",
    "sol_core/generation/test_warm_up.py": "sol_core/generation/warm_up.py",
    "sol_core/models/test_step_graph.py test_other_families.py": "sol_core/models",
    "test_documents.py test_notebook.py test_readme.py": "docs mkdocs.yml README.md",
    "documents/test_extending_forks.py": "docs/extending.md sol_core/training sol_core/models",
    "app/setup test_launch.py test_package.py test_notebook.py test_space.py": SET_UP,
    "app/site/test_load.py test_space.py": "app/site app/jobs",
}
assert all((ROOT / "tests" / part).exists() for parts in RELEASE for part in parts.split())


def pytest_addoption(parser):
    parser.addoption("--since", metavar="COMMIT", help="tests of what changed are no release tests")


def release_parts(commit):
    """Parts of the tests that are left to a release; of a commit, those that it left untouched."""
    changed = []
    if commit:
        command = ["git", "diff", "--name-only", "--end-of-options", commit]
        git = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if git.returncode:
            raise pytest.UsageError(f"--since {commit}: {git.stderr.strip()}")
        changed = [Path(path) for path in git.stdout.splitlines()]
    parts = {part for parts in RELEASE for part in parts.split()}
    for parts_of, subjects in RELEASE.items():
        for part in parts_of.split():
            about = (f"tests/{part}", *subjects.split())
            if any(path.is_relative_to(subject) for path in changed for subject in about):
                parts.discard(part)
    return parts


def pytest_collection_modifyitems(config, items):
    """Mark what only a release needs."""
    parts = release_parts(config.getoption("--since"))
    for item in items:
        path = item.path.relative_to(ROOT / "tests")
        if any(path.is_relative_to(part) for part in parts):
            item.add_marker(pytest.mark.release)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    lengths = Counter[Path]()
    for item in items:
        starts_programs = "subprocess" in vars(item.module)
        base = PROCESSES_SECONDS if starts_programs else OTHER_SECONDS
        lengths[item.path] += max([base, *(SECONDS.get(m.name, 0.0) for m in item.iter_markers())])
    items.sort(key=lambda item: -lengths[item.path])


@pytest.fixture(autouse=True)
def no_compiling_thread():
    """A load that failed leaves its kernels compiling: not beside a test that replaces some."""
    yield
    for thread in threading.enumerate():
        if thread.name == "kernel-warm-up":
            thread.join()


@pytest.fixture(scope="session")
def postgres_server():
    """A real PostgreSQL, one per test process."""
    from tests.support.postgres_server import running_postgres, why_no_postgres

    if reason := why_no_postgres():
        pytest.skip(reason)
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def model_data_dir():
    """The user's data directory, with the default model in it (fetched when missing)."""
    from app.host.paths import DataDir
    from sol_core.files.assets import DEFAULT_MODEL_ASSET, ensure_model

    data_dir = DataDir.resolve(None)
    data_dir.prepare()
    ensure_model(DEFAULT_MODEL_ASSET, data_dir.root)
    return data_dir.root


@pytest.fixture(scope="session")
def default_model_dir(model_data_dir):
    """Folder of the default model's safetensors."""
    from sol_core.files.assets import DEFAULT_MODEL_ASSET, ensure_model

    return ensure_model(DEFAULT_MODEL_ASSET, model_data_dir)


@pytest.fixture(scope="session")
def default_model(model_data_dir):
    """SmolLM2-135M-Instruct in fp32 on the CPU."""
    from sol_core.models.loading import load_language_model

    return load_language_model(data_dir=model_data_dir, dtype="float32", device="cpu")


@pytest.fixture(scope="session", params=["float32", "bfloat16"])
def either_model(request, model_data_dir):
    """The same in both formats, for tests of numbers: a CPU without units for bf16 has them too."""
    from sol_core.models.loading import load_language_model

    if request.param == "float32":
        return request.getfixturevalue("default_model")
    return load_language_model(data_dir=model_data_dir, dtype=request.param, device="cpu")


@pytest.fixture(scope="module")
def one_thread():
    """Threads only slow a tiny model down, the more so on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def generator():
    """Seeded randomness."""
    import torch

    return torch.Generator().manual_seed(0)
