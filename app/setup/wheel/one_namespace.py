"""Build backend: setuptools' own, but a wheel has every package under ``sol_core``.

Installed, names like ``app`` and ``kernels`` would belong to whichever project came last. So the
built wheel's files are moved, its import statements and entry points get the new names, and
``RECORD`` is written again. Strings are left alone: code must not spell a module's name in one.

It is one file, on the standard library and setuptools alone: it is imported by itself.
"""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import io
import itertools
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  # the other hooks, as its documentation has it

NAMESPACE = "sol_core"
MOVED = ("app", "kernels", "storage")
_LEFT_OUT = "app/setup/wheel/"
_FROM = re.compile(rb"from(?:[ \t\f]|\\\r?\n)+")
_ENTRY_POINT = re.compile(rf"(=\s*)(?=(?:{'|'.join(MOVED)})[.:])")


class ImportFormError(ValueError):
    """An import statement that has no counterpart under another name."""


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: Mapping[str, Any] | None = None
) -> str:
    """Write the wheel's metadata; returns its folder's name. The hook of that name in PEP 517."""
    name = str(build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings))
    for path in (Path(metadata_directory) / name).iterdir():
        if path.is_file():
            path.write_bytes(_moved_content(f"{name}/{path.name}", path.read_bytes()))
    return name


def build_wheel(
    wheel_directory: str,
    config_settings: Mapping[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the wheel; returns its file's name (PEP 517). Raises: ImportFormError."""
    with tempfile.TemporaryDirectory() as folder:
        name = str(build_meta.build_wheel(folder, config_settings, metadata_directory))
        moved = Path(folder) / "moved.whl"
        move_wheel(Path(folder) / name, moved)
        shutil.copyfile(moved, Path(wheel_directory) / name)
    return name


def move_wheel(source: Path, target: Path) -> None:
    """Write a wheel again with its packages under ``NAMESPACE``. Raises: ImportFormError."""
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    written: set[str] = set()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for member in sorted(old.infolist(), key=lambda entry: entry.filename.endswith("/RECORD")):
            name = member.filename
            if name.startswith(_LEFT_OUT) or member.is_dir():
                continue
            if name.partition("/")[0] in MOVED:
                member.filename = f"{NAMESPACE}/{name}"
            if member.filename in written:
                raise ImportFormError(f"{name} would be {member.filename}, which is there already")
            written.add(member.filename)
            if name.endswith(".dist-info/RECORD"):
                rows.writerow((name, "", ""))
                content = record.getvalue().encode()
            else:
                content = _moved_content(name, old.read(name))
                digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
                rows.writerow((member.filename, f"sha256={digest.decode()}", len(content)))
            new.writestr(member, content, zipfile.ZIP_DEFLATED)


def with_moved_imports(source: bytes, name: str) -> bytes:
    """A source with moved imports; ``import kernels.x`` without ``as`` is refused."""
    # From the end, so that what is still to do keeps its position.
    for at, text in sorted(_insertions(source, name), reverse=True):
        source = source[:at] + text + source[at:]
    return source


def _insertions(source: bytes, name: str) -> Iterator[tuple[int, bytes]]:
    """Positions in the source, and the text to insert at each."""
    starts = [0, *itertools.accumulate(map(len, source.splitlines(keepends=True)))]
    prefix = f"{NAMESPACE}.".encode()
    for node in ast.walk(ast.parse(source, name)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and _is_moved(node.module or ""):
            match = _FROM.match(source, starts[node.lineno - 1] + node.col_offset)
            assert match is not None
            yield match.end(), prefix
        elif isinstance(node, ast.Import):
            for alias in filter(lambda alias: _is_moved(alias.name), node.names):
                if alias.asname is None and "." in alias.name:
                    raise ImportFormError(
                        f"{name}:{alias.lineno}: `import {alias.name}` binds a name that no wheel "
                        f"has: write `import {alias.name} as …` or `from … import …`"
                    )
                start = starts[alias.lineno - 1] + alias.col_offset
                yield start, prefix
                if alias.asname is None:
                    yield start + len(alias.name), f" as {alias.name}".encode()


def _is_moved(module: str) -> bool:
    return module.partition(".")[0] in MOVED


def _moved_content(name: str, content: bytes) -> bytes:
    """A file's content in the wheel; moving what was moved already changes nothing."""
    if name.endswith(".py"):
        return with_moved_imports(content, name)
    if name.endswith(".dist-info/entry_points.txt"):
        return _ENTRY_POINT.sub(rf"\1{NAMESPACE}.", content.decode()).encode()
    if name.endswith(".dist-info/top_level.txt"):
        return f"{NAMESPACE}\n".encode()
    return content
