"""A copy of the launcher whose dependencies are tiny wheels made here: no network, real pip."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
# Stands in for the page: says which interpreter it runs in, and what it can import.
SERVE_STUB = """
import json, os, sys

HELP = "stand-in"


def add_arguments(parser):
    parser.add_argument("--port", type=int)


def run(args):
    import tiny_dep

    print(json.dumps({"prefix": sys.prefix, "port": args.port, "version": tiny_dep.VERSION,
                      "utf8": sys.flags.utf8_mode,
                      "modules": [m for m in ("venv", "ensurepip", "pip") if m in sys.modules]}))
    return 0
"""


@dataclass
class TinyProject:
    """``launch.py`` with ``app`` and the engine's plain modules, in a folder of its own."""

    root: Path
    wheels: Path
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, folder):
        project = cls(folder / "project", folder / "wheels")
        project.wheels.mkdir(parents=True)
        for package in ("app", "sol_core", "kernels"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(PROJECT / package, project.root / package, ignore=ignored)
        shutil.copy(PROJECT / "launch.py", project.root)
        (project.root / "app" / "cli" / "program" / "serve.py").write_text(
            SERVE_STUB, encoding="utf-8"
        )
        project.depend_on(["tiny-dep>=1.0"])
        make_wheel(project.wheels, "tiny_dep", "1.0")
        make_wheel(project.wheels, "tiny_extra", "1.0")
        return project

    @property
    def venv(self):
        return self.root / ".venv"

    @property
    def state_file(self):
        return self.venv / "sol-environment.json"

    def state(self):
        return json.loads(self.state_file.read_text(encoding="utf-8"))

    def depend_on(self, requirements):
        (self.root / "pyproject.toml").write_text(
            f"[project]\nname = 'tiny'\ndependencies = {json.dumps(list(requirements))}\n"
            "[project.optional-dependencies]\ntest = ['tiny-extra']\n",
            encoding="utf-8",
        )

    def start(self, *arguments, python=(sys.executable,), stderr=subprocess.PIPE):
        """Start ``launch.py`` in a process group of its own; the caller waits for it."""
        return subprocess.Popen(
            [*python, str(self.root / "launch.py"), *arguments], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=stderr, text=True, env=self._environment(),
            start_new_session=True,
        )  # fmt: skip

    def launch(self, *arguments, python=(sys.executable,)):
        """Run ``launch.py`` to its end."""
        with self.start(*arguments, python=python) as process:
            out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def _environment(self):
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PIP_", "SOL_", "SPACE"))
        }
        local = {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return kept | local | self.variables


def make_wheel(folder, name, version, num_modules=0):
    """A pure-Python wheel with one module that knows its ``VERSION``."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files |= {f"{name}/m{number}.py": "" for number in range(num_modules)}
    record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(file, content)
    return path
