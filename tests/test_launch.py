"""``launch.py`` as a user starts it: on any Python, and from a clean clone."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
LAUNCH = PROJECT / "launch.py"
OLD_PYTHONS = ("python2.7", "python3.6", "python3.7", "python3.8", "python3.9", "python3.10")


def test_minimum_python_is_that_of_pyproject() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    assert "MINIMUM_PYTHON = (3, 11)" in LAUNCH.read_text("utf-8")
    assert project["requires-python"] == ">=3.11"


def test_launcher_is_short_and_imports_the_standard_library_only() -> None:
    source = LAUNCH.read_text("utf-8")
    assert len(source.splitlines()) < 60
    tree = ast.parse(source, feature_version=(3, 4))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in top] == ["import sys"]


def test_an_old_python_gets_one_line() -> None:
    found = [python for python in map(shutil.which, OLD_PYTHONS) if python and _runs(python)]
    if not found:
        pytest.skip("no Python older than 3.11 here")
    for python in found:
        done = subprocess.run(
            [python, str(LAUNCH), "generate", "hi"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert re.fullmatch(r"error: this needs Python 3\.11 or newer, .*\n", done.stderr)


def test_version_check_on_this_python(capsys: pytest.CaptureFixture[str]) -> None:
    """The same check where no old Python is at hand."""
    namespace: dict[str, object] = {"__name__": "launch"}
    exec(compile(LAUNCH.read_text("utf-8"), "launch.py", "exec"), namespace)
    namespace["MINIMUM_PYTHON"] = (99, 0)
    assert namespace["main"]() == 1  # type: ignore[operator]  # a function out of exec
    assert capsys.readouterr().err.startswith("error: this needs Python 99.0 or newer")


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="not a git checkout")
def test_page_comes_up_from_a_clean_clone(default_model_dir: Path, tmp_path: Path) -> None:
    """Clone, ``python launch.py``, open the page; a second launch is sent to the first.

    Inside a virtual environment that one is reused; otherwise the real set-up runs.
    """
    clone, data_dir, home = (tmp_path / name for name in ("clone", "data", "home"))
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], check=True)
    home.mkdir()
    shutil.copytree(default_model_dir, data_dir / "models" / default_model_dir.name)
    before = _names(clone)
    variables = {"SOL_DATA_DIR": str(data_dir), "HOME": str(home), "SOL_VENV": _environment()}
    variables = {**os.environ, **variables}
    port = _free_port()
    command = [_base_python(), str(clone / "launch.py"), "--no-browser", "--port"]
    with subprocess.Popen(
        [*command, str(port)],
        env=variables,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as page:
        try:
            _wait_for_page(f"http://127.0.0.1:{port}/", page, seconds=1500)
            second = subprocess.run(
                [*command, "0"], env=variables, capture_output=True, text=True, check=False
            )
        finally:
            page.send_signal(signal.SIGTERM)
            _, err = page.communicate(timeout=60)
    assert second.returncode == 1
    assert f"127.0.0.1:{port}" in second.stderr, "the second is told where the first runs"
    assert "Traceback" not in err
    assert page.returncode in (0, 130)
    assert _names(clone) - before <= {".venv"}
    assert _names(home) <= {".rustup"}  # pip asks rustc for its version, whose shim makes this


def _runs(python: str) -> bool:
    return subprocess.run([python, "-V"], capture_output=True, check=False).returncode == 0


def _names(folder: Path) -> set[str]:
    """What lies in a folder, compiled Python left out."""
    return {path.name for path in folder.iterdir()} - {"__pycache__"}


def _base_python() -> str:
    """The interpreter outside the virtual environment that the tests may run in."""
    return str(getattr(sys, "_base_executable", sys.executable))


def _environment() -> str:
    in_venv = sys.prefix != sys.base_prefix
    return os.environ.get("SOL_VENV") or (sys.prefix if in_venv else "")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_page(url: str, page: subprocess.Popen[str], seconds: float) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while True:
        assert page.poll() is None, "it ended before the page came up"
        assert time.monotonic() < deadline, "the page did not come up"
        try:
            with opener.open(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except OSError:
            time.sleep(0.25)
