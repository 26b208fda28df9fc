"""The repository as a Hugging Face Space: its front matter and its requirements."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_front_matter_is_a_valid_spaces() -> None:
    _, front, _ = (ROOT / "README.md").read_text("utf-8").split("---\n", 2)
    settings = yaml.safe_load(front)
    assert settings["sdk"] == "gradio"
    assert (ROOT / settings["app_file"]).is_file()
    assert (
        Version(settings["python_version"])
        in Requirement(f"python{PROJECT['requires-python']}").specifier
    )
    gradio = next(r for r in map(Requirement, PROJECT["dependencies"]) if r.name == "gradio")
    assert Version(settings["sdk_version"]) in gradio.specifier
    assert settings["license"] == PROJECT["license"].lower()
    assert len(settings["short_description"]) <= 60  # the Hub refuses longer ones


def test_a_space_installs_what_the_project_depends_on() -> None:
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == PROJECT["dependencies"]
