"""The packages that pyproject.toml asks for, and which of them an interpreter lacks.

Nothing is imported. A Python without ``packaging`` has none of our dependencies either, so there
the name alone decides.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.host.errors import BootstrapError
from app.host.hosting import is_checkout

BASE = "base"  # the group of what the program itself needs, beside the extras
APP = "app"  # the extra that the page and the commands add to the engine's dependencies
DISTRIBUTION = "sol-explorer"  # pyproject.toml's name
NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def read_requirements(pyproject: Path, extras: Sequence[str] = ()) -> Mapping[str, tuple[str, ...]]:
    """Requirements by group: ``BASE`` and all ``extras``. Raises: BootstrapError."""
    try:
        project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
        optional = project.get("optional-dependencies", {})
        groups = {BASE: (*project.get("dependencies", ()), *optional.get(APP, ()))}
        return groups | {extra: tuple(optional[extra]) for extra in extras}
    except (OSError, KeyError, ValueError) as error:
        raise BootstrapError(
            f"cannot read the dependencies from {pyproject} ({error}): "
            "restore the file from the repository"
        ) from error


def project_requirements(root: Path, extras: Sequence[str] = ()) -> Mapping[str, tuple[str, ...]]:
    """As ``read_requirements``, of the checkout in ``root`` or else of the installed package."""
    if is_checkout(root):
        return read_requirements(root / "pyproject.toml", extras)
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in requires(DISTRIBUTION) or []]
    except PackageNotFoundError as error:
        raise BootstrapError(
            f"{root} is neither a checkout nor an installed package: install {DISTRIBUTION} again"
        ) from error

    def belonging(group: str) -> tuple[str, ...]:
        """Requirements of an extra; those of none for ``BASE``."""
        texts = []
        for requirement in requirements:
            belongs = requirement.marker is None or requirement.marker.evaluate({"extra": group})
            is_extra = requirement.marker is not None and "extra" in str(requirement.marker)
            if belongs and is_extra == (group != BASE):
                texts.append(f"{requirement.name}{requirement.specifier}")
        return tuple(texts)

    groups = {group: belonging(group) for group in extras}
    return groups | {BASE: belonging(BASE) + belonging(APP)}


def digest(requirements: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(sorted(requirements)).encode()).hexdigest()


def requirement_name(text: str) -> str:
    """``"torch>=2.8; sys_platform == 'linux'"`` → ``torch``."""
    match = NAME.match(text)
    return match[1] if match else text


def unmet(requirements: Sequence[str]) -> list[str]:
    """The requirements that this interpreter lacks in a fitting version, in their order."""
    return [text for text in requirements if not _is_met(text)]


def _is_met(text: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return _installed_version(requirement_name(text)) is not None
    requirement = Requirement(text)
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    version = _installed_version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _installed_version(name: str) -> str | None:
    import importlib.metadata  # 15 ms, which a complete .venv never pays

    for distribution in importlib.metadata.distributions(name=name):
        # A half-removed package leaves a folder whose metadata has no version.
        if version := distribution.metadata["Version"]:
            return str(version)
    return None
