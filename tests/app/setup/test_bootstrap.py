"""Setting up the packages: real interpreters, real venvs, real pip, no network."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.host.errors import BootstrapError
from app.setup import bootstrap, virtual_environment
from app.setup.bootstrap import ensure_environment
from tests.app.tiny_project import PROJECT, TinyProject, make_wheel
from tests.app.waiting import wait_until

Decide = Callable[..., list[str] | None]

CLOSED_PORT = "http://127.0.0.1:9/simple"


@pytest.fixture
def project(tmp_path):
    return TinyProject.make(tmp_path)


@pytest.fixture(scope="module")
def ready_template(tmp_path_factory):
    """A project after its first start, by two launches at once."""
    project = TinyProject.make(tmp_path_factory.mktemp("ready"))
    python = (sys.executable, "-X", "utf8")
    first, second = (project.start("--port", port, python=python) for port in ("7", "8"))
    with first, second:
        said = [process.communicate(timeout=120) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    (project.root / "first.json").write_text(json.dumps(said), encoding="utf-8")
    return project


def _copied(source, target):
    """Pip's own thousand files, which no test writes to, are linked: copying them took a second."""
    if f"site-packages{os.sep}pip{os.sep}" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


@pytest.fixture
def ready(ready_template, tmp_path):
    """A project whose environment is complete, and whose pip can reach nothing."""
    copy = TinyProject(tmp_path / "ready" / "project", tmp_path / "ready" / "wheels")
    shutil.copytree(ready_template.root, copy.root, symlinks=True, copy_function=_copied)
    copy.wheels.mkdir()
    return copy


@pytest.fixture
def in_process(project, monkeypatch):
    """Decide in this process; returns the command that it would have become, if any."""
    for name in ("SPACE_ID", "SOL_VENV"):
        monkeypatch.delenv(name, raising=False)

    class Replaced(Exception):
        pass

    became = []

    def replace(command):
        became.append(command)
        raise Replaced

    monkeypatch.setattr(bootstrap, "replace_process", replace)

    def decide(**options):
        try:
            ensure_environment(project_root=project.root, **options)
        except Replaced:
            return became[-1]
        return None

    return decide


def one_error(done):
    """The one line that explains a failure."""
    assert done.returncode not in (0, None)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_first_start_builds_and_starts_over_with_the_same_arguments(ready_template):
    first = json.loads((ready_template.root / "first.json").read_text("utf-8"))
    for port, (out, _) in zip((7, 8), first, strict=True):
        said = json.loads(out)  # nothing but the command's own output on stdout
        assert Path(said["prefix"]) == ready_template.venv
        assert said["port"] == port
        assert said["utf8"] == 1, "the interpreter's own options are lost"
    waiting, builder = sorted(err for _, err in first)
    assert waiting.startswith("Another launch is setting up")
    assert "Setting up the Python packages" not in waiting
    assert re.fullmatch(  # not on a terminal: nothing of pip's
        r"Setting up the Python packages in .*\nThe packages are ready\.\n", builder
    )
    assert set(ready_template.state()["installed"]) == {"base"}
    assert not (ready_template.venv / "tmp").exists()


def test_a_changed_dependency_list_is_installed_into_the_same_environment(ready):
    installed = next(ready.venv.glob("lib/*/site-packages/tiny_dep.py"))
    installed.write_text("VERSION = 'as it was'\n", "utf-8")
    make_wheel(ready.wheels, "tiny_extra", "1.0")
    ready.depend_on(["tiny-dep>=1", "tiny-extra"])
    done = ready.launch()
    assert done.returncode == 0, done.stderr
    assert "Updating" in done.stderr
    assert json.loads(done.stdout)["version"] == "as it was", "what fits is not fetched again"
    make_wheel(ready.wheels, "tiny_dep", "2.0")
    ready.depend_on(["tiny-dep>=2"])
    assert json.loads(ready.launch().stdout)["version"] == "2.0"


@pytest.mark.parametrize("damage", ["unreadable state", "python gone"])
def test_a_damaged_environment_is_built_again(in_process, ready, monkeypatch, damage):
    """Up to the two commands that the half-made one is really built by."""
    python = ready.venv / "bin" / "python"
    if damage == "unreadable state":
        ready.state_file.write_text("{", "utf-8")
    else:
        for link in (ready.venv / "bin").glob("python*"):
            link.unlink()
    commands = []

    def create(command, lock):
        commands.append(command)
        left = {path.name for path in ready.venv.iterdir()}
        assert left == {"sol-environment.lock"}, "it was not emptied"
        python.parent.mkdir()
        python.symlink_to(sys.executable)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(virtual_environment, "run", create)
    pip = f"{virtual_environment.__name__}.VirtualEnvironment._pip"
    monkeypatch.setattr(pip, lambda self, options, lock: commands.append(options))
    monkeypatch.setenv("SOL_VENV", str(ready.venv))
    command = in_process()
    assert command[0] == str(python)
    venv, packages = commands
    assert venv[1:] == ["-I", "-m", "venv", str(ready.venv)]
    assert packages == ["--quiet", "tiny-dep>=1.0"]
    assert set(ready.state()["installed"]) == {"base"}


def test_set_up_killed_within_a_package_is_finished_by_the_next_launch(ready):
    """pip takes what it had begun to unpack for installed, and cannot uninstall it."""
    make_wheel(ready.wheels, "tiny_dep", "1.0")
    make_wheel(ready.wheels, "tiny_extra", "1.0", num_modules=3000)
    ready.depend_on(["tiny-dep", "tiny-extra"])
    with ready.start() as killed:
        wait_until(lambda: any(ready.venv.glob("lib/*/site-packages/tiny_extra/*")), 60)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
    (site,) = ready.venv.glob("lib/*/site-packages")
    assert len(list((site / "tiny_extra").glob("*.py"))) < 3000, "it was killed too late"
    done = ready.launch()
    assert done.returncode == 0, done.stderr
    assert len(list((site / "tiny_extra").glob("*.py"))) == 3000


def test_nobody_empties_the_folder_under_a_child_of_a_killed_launch(project):
    with project.start() as killed:
        wait_until((project.venv / "pyvenv.cfg").exists, 60)
        killed.kill()  # alone: its child goes on and holds the lock
        done = project.launch()
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("Another launch is setting up the packages; waiting for it.\n")


def test_interrupt_during_set_up_exits_130_without_a_traceback(project):
    process = project.start()
    with process:
        wait_until((project.venv / "pyvenv.cfg").exists, 60)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_no_network_is_one_line_and_the_next_launch_goes_on(ready):
    ready.depend_on(["tiny-dep", "tiny-extra"])
    ready.variables = {"PIP_NO_INDEX": "0", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": CLOSED_PORT}
    ready.variables |= {"PIP_RETRIES": "1"}
    done = ready.launch()
    message, log = one_error(done), ready.venv / "pip.log"
    assert "No matching distribution found for tiny-extra" in message
    assert "start again" in message
    assert str(log) in message
    assert "No matching distribution found for tiny-extra" in log.read_text("utf-8")
    assert len(done.stderr.splitlines()) == 2, "pip's tracebacks are no sight for users"
    ready.variables = {}
    for name in ("tiny_dep", "tiny_extra"):
        make_wheel(ready.wheels, name, "1.0")
    assert ready.launch().returncode == 0


@pytest.fixture
def index(tmp_path):
    """A package index: its folder, with a folder for each package, and its address."""
    folder = tmp_path / "index"
    for name in ("torch", "tiny-dep"):
        (folder / name).mkdir(parents=True)
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_): ...


def use_torch_index(project, address):
    """Let the project ask this index for torch, whatever pip's settings and the drivers are."""
    module = project.root / "app" / "setup" / "requirements.py"
    with module.open("a", encoding="utf-8") as file:
        file.write(f"\n\ndef torch_index(python):\n    return {address!r}\n")


@pytest.mark.parametrize("is_reached", [True, False])
def test_torch_comes_from_an_index_of_its_own_or_else_from_pips(ready, index, is_reached):
    folder, address = index
    make_wheel(folder / "torch", "torch", "1.0+cpu")
    ready.depend_on(["tiny-dep>=1", "torch>=1"])
    own, pips = (address, CLOSED_PORT) if is_reached else (CLOSED_PORT, address)
    ready.variables = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": pips, "PIP_RETRIES": "0"}
    use_torch_index(ready, own)
    done = ready.launch()
    assert done.returncode == 0, done.stderr
    (module,) = ready.venv.glob("lib/*/site-packages/torch.py")
    assert "1.0+cpu" in module.read_text("utf-8")
    assert (f"No torch from {CLOSED_PORT}: taking pip's own" in done.stderr) is not is_reached


def test_an_environment_elsewhere_is_used_without_pip_or_a_word(ready, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    ready.venv.rename(elsewhere)
    ready.variables = {"SOL_VENV": str(elsewhere)}
    before = {path: path.stat().st_mtime_ns for path in elsewhere.iterdir()}
    done = ready.launch()  # pip could find nothing
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(json.loads(done.stdout)["prefix"]) == elsewhere
    assert not ready.venv.exists()
    assert {path: path.stat().st_mtime_ns for path in elsewhere.iterdir()} == before


def test_a_place_with_something_else_or_that_cannot_be_written_is_left_alone(project, tmp_path):
    (tmp_path / "letter.txt").write_text("dear", "utf-8")
    for place, said in ((tmp_path, "holds something else"), (tmp_path / "letter.txt/x", "write")):
        project.variables = {"SOL_VENV": str(place)}
        assert said in one_error(project.launch())
    assert (tmp_path / "letter.txt").read_text("utf-8") == "dear"


@pytest.mark.parametrize("is_of_an_older_release", [False, True])
def test_an_environment_of_the_user_is_used_from_within_and_never_changed(
    ready, is_of_an_older_release
):
    if is_of_an_older_release:  # which completed it, and said so
        ready.state_file.write_text('{"made_here": false, "installed": {}}', "utf-8")
        ready.depend_on(["tiny-dep", "tiny-extra"])
    else:
        ready.state_file.unlink()
        (ready.venv / "sol-environment.lock").unlink()
        inside = ready.launch(python=(str(ready.venv / "bin" / "python"),))
        assert (inside.returncode, inside.stderr) == (0, "")
    (ready.venv / "own.txt").touch()
    assert "start with the Python in it" in one_error(ready.launch())
    assert (ready.venv / "own.txt").exists()


def test_bad_arguments_and_help_install_nothing(project):
    assert project.launch("generate", "hi", "--keep", "nan").returncode == 2
    assert project.launch("--help").returncode == 0
    assert project.launch("generate", "--help").returncode == 0
    project.variables = {"_ARGCOMPLETE": "2", "COMP_LINE": "python launch.py ", "COMP_POINT": "17"}
    done = project.launch()  # the Tab key
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert not project.venv.exists()


def test_doctor_without_packages_says_what_is_missing(project, tmp_path):
    done = project.launch("doctor", "--json", "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1
    findings = json.loads(done.stdout)
    assert any("tiny-dep" in sentence for sentence in findings["missing"])
    assert not project.venv.exists()
    assert not (tmp_path / "data").exists()


def test_an_interpreter_that_has_the_packages_is_used_and_no_other_is_touched(in_process, project):
    project.depend_on(["pytest>=1", "nothing-of-the-kind; sys_platform == 'none'"])
    assert in_process() is None
    with pytest.raises(BootstrapError, match=r'lacks tiny-extra: .* -m pip install "tiny-extra"'):
        in_process(extras=("test",))
    for requirement in ("pytest>=999", "tiny-dep"):
        project.depend_on([requirement])
        assert in_process(install=False) is None  # nothing ready, and nothing may be made
    assert not project.venv.exists()


def test_a_space_never_gets_an_environment(in_process, project, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "someone/space")
    with pytest.raises(BootstrapError, match=r"requirements.txt of this Space lacks tiny-dep"):
        in_process()
    project.depend_on(["pytest"])
    assert in_process() is None
    assert not project.venv.exists()


def test_no_venv_module(in_process, monkeypatch, tmp_path):
    python = tmp_path / "python"  # as Debian's, without python3-venv
    python.write_text("#!/bin/sh\necho $0: No module named venv >&2; exit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(virtual_environment, "_base_python", lambda: str(python))
    with pytest.raises(
        BootstrapError, match=r"No module named venv; .*apt install python3\.\d+-venv"
    ):
        in_process()


def test_no_disk_space(in_process, project, monkeypatch):
    free = SimpleNamespace(free=int(1.2e9))
    monkeypatch.setattr(virtual_environment.shutil, "disk_usage", lambda path: free)
    with pytest.raises(BootstrapError, match=r"only 1\.2 GB are free .* free some space"):
        in_process()
    assert not (project.venv / "pyvenv.cfg").exists()


def test_an_environment_that_does_not_start_as_one_is_no_endless_loop(
    in_process, ready, project, monkeypatch
):
    monkeypatch.setenv("SOL_VENV", str(ready.venv))
    command = in_process()
    assert command[0] == str(ready.venv / "bin" / "python")
    assert command[1:3] == ["-X", "sol-restarted"]
    monkeypatch.setitem(sys._xoptions, "sol-restarted", True)
    with pytest.raises(BootstrapError, match="delete that folder"):  # as if that had led here
        in_process()


def test_the_command_line_needs_no_package_to_be_imported():
    """Without site-packages: an import of anything but the standard library fails."""
    code = "import app.cli.main; app.cli.main._build_parser(app.cli.main.COMMANDS)"
    assert subprocess.run([sys.executable, "-S", "-c", code], cwd=PROJECT).returncode == 0
