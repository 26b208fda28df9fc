"""``launch.py test``: which tests it asks pytest for."""

import argparse

import pytest

from app.cli.program import test as command
from app.host.hosting import PROJECT_ROOT
from sol_core.files.paths import SHIPPED_POLICY


@pytest.mark.parametrize(
    ("rest", "extra"),
    [
        (["-q"], ["-m", command.LANDING]),
        (["-k", "app", "-x"], ["-m", command.LANDING]),
        (["--maxfail", "3", str(SHIPPED_POLICY)], ["-m", command.LANDING]),
        (["tests/app"], []),
        (["-q", "tests/test_package.py::test_the_wheel"], []),
        ([str(PROJECT_ROOT / "tests"), "-x"], []),
    ],
)
def test_only_named_tests_include_a_releases(monkeypatch, tmp_path, rest, extra):
    asked = []
    monkeypatch.setattr(command.environment, "prepare", lambda folder: None)
    monkeypatch.setattr(command, "replace_process", asked.append)
    monkeypatch.chdir(tmp_path)
    arguments = argparse.Namespace(fast=False, all=False, since=None, rest=rest)
    command.run(arguments)
    assert asked[0][3:] == [*extra, *rest]
