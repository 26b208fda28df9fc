"""``launch.py`` as a user starts it: on any Python, and from a clean clone."""

import ast
import contextlib
import os
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


def test_an_old_python_can_read_the_launcher_and_is_told_the_minimum():
    source = LAUNCH.read_text("utf-8")
    tree = ast.parse(source, feature_version=(3, 4))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in top] == ["import sys"]
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"
    assert "MINIMUM_PYTHON = (3, 11)" in source


def test_version_check_on_this_python(capsys):
    """The same check where no old Python is at hand."""
    namespace = {"__name__": "launch"}
    exec(compile(LAUNCH.read_text("utf-8"), "launch.py", "exec"), namespace)
    namespace["MINIMUM_PYTHON"] = (99, 0)
    assert namespace["main"]() == 1
    assert capsys.readouterr().err.startswith("error: this needs Python 99.0 or newer")


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="not a git checkout")
def test_page_comes_up_from_a_clean_clone(default_model_dir, tmp_path):
    """Clone, ``python launch.py``, open the page; a second launch is sent to the first."""
    clone, data_dir, home = (tmp_path / name for name in ("clone", "data", "home"))
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], check=True)
    home.mkdir()
    shutil.copytree(default_model_dir, data_dir / "models" / default_model_dir.name)
    before = _names(clone)
    own = os.environ.get("SOL_VENV") or (sys.prefix if sys.prefix != sys.base_prefix else "")
    variables = os.environ | {"SOL_DATA_DIR": str(data_dir), "HOME": str(home), "SOL_VENV": own}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    python = str(getattr(sys, "_base_executable", sys.executable))  # outside the environment
    command = [python, str(clone / "launch.py"), "--no-browser", "--port"]
    options = {"env": variables, "text": True, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, str(port)], stdin=subprocess.DEVNULL, **options) as page:
        try:
            _wait_for_page(f"http://127.0.0.1:{port}/", page, seconds=1500)
            second = subprocess.run([*command, "0"], check=False, **options)
        finally:
            page.send_signal(signal.SIGTERM)
            _, err = page.communicate(timeout=60)
    assert second.returncode == 1
    assert f"127.0.0.1:{port}" in second.stderr, "the second is told where the first runs"
    assert "Traceback" not in err
    assert page.returncode in (0, 130)
    assert _names(clone) - before <= {".venv"}
    assert _names(home) <= {".rustup"}  # pip asks rustc for its version, whose shim makes this


def _names(folder):
    """What lies in a folder, compiled Python left out."""
    return {path.name for path in folder.iterdir()} - {"__pycache__"}


def _wait_for_page(url, page, seconds):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while True:
        assert page.poll() is None, "it ended before the page came up"
        assert time.monotonic() < deadline, "the page did not come up"
        with contextlib.suppress(OSError), opener.open(url, timeout=5) as answer:
            assert answer.status == 200
            return
        time.sleep(0.25)
