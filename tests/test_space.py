"""The repository as a Hugging Face Space: its front matter and its requirements."""

import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_front_matter_is_a_valid_spaces():
    _, front, _ = (ROOT / "README.md").read_text("utf-8").split("---\n", 2)
    settings = yaml.safe_load(front)
    assert settings["sdk"] == "gradio"
    assert (ROOT / settings["app_file"]).is_file()
    assert (
        Version(settings["python_version"])
        in Requirement(f"python{PROJECT['requires-python']}").specifier
    )
    app = map(Requirement, PROJECT["optional-dependencies"]["app"])
    gradio = next(one for one in app if one.name == "gradio")
    assert Version(settings["sdk_version"]) in gradio.specifier
    assert settings["license"] == PROJECT["license"].lower()
    assert len(settings["short_description"]) <= 60  # the Hub refuses longer ones


def test_a_space_installs_what_the_project_depends_on():
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    found = [Requirement(line) for line in lines if not line.startswith("#")]
    texts = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["app"]
    wanted = [Requirement(text) for text in texts]
    assert [(one.name, str(one.marker)) for one in found] == [
        (one.name, str(one.marker)) for one in wanted
    ]
    for one, other in zip(found, wanted, strict=True):
        assert one.name == "torch" or one.specifier == other.specifier
    torch = next(one for one in found if one.name == "torch").specifier
    # pip would take the newest, which ZeroGPU refuses
    assert [one in torch for one in ("2.7.1", "2.11.0", "2.12.0")] == [False, True, False]
