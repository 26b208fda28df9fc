"""Keeps a GGUF file's converted model in the data directory, named by its SHA-256, with a
manifest."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple

from sol_core.errors import ModelLoadError
from sol_core.files.fetch import last_line, own_python_path, reported_progress, run_module
from sol_core.files.gguf_header import GgufHeader, check_gguf, checkpoint_names, read_gguf_header
from sol_core.files.paths import DEFAULT_MODEL, read_json_object
from sol_core.files.staging import STAMPS_NAME, check_free_space, known_sha256, make_once, storing
from sol_core.progress import Progress, megabytes, part_of

logger = logging.getLogger(__name__)
CheckFolder = Callable[[Path], object]  # raises ModelLoadError if damaged

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 1
TOKENIZER_BYTES = 50_000_000  # an upper bound: Gemma's takes 33 MB
CHECKSUM_FRACTION = 0.1  # of the progress bar


class FileRecord(NamedTuple):
    """Size and checksum of a file in the manifest."""

    num_bytes: int
    sha256: str


class GgufSource(NamedTuple):
    """Source of a model folder; the manifest records ``file`` and ``sha256``."""

    name: str  # of the model
    file: str
    sha256: str
    num_bytes: int  # of the folder, for the disk check
    eos_token: str | None = None  # ends an answer; None: as in the file


def write_manifest(folder: Path, source: GgufSource) -> None:
    """Write the sizes and checksums of a newly converted folder's files."""
    files = {
        path.name: FileRecord(path.stat().st_size, known_sha256(path, None))._asdict()
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST_NAME
    }
    record = {
        "schema": SCHEMA_VERSION,
        "name": source.name,
        "source": source.file,
        "source_sha256": source.sha256,
        "files": files,
    }
    (folder / MANIFEST_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def check_model(folder: Path) -> dict[str, FileRecord]:
    """Check the files' sizes (fast); return their records."""
    path = folder / MANIFEST_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} is missing or damaged ({error})") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA_VERSION:
        raise ModelLoadError(f"{path} is not a manifest of version {SCHEMA_VERSION}")
    try:
        files = {name: FileRecord(**entry) for name, entry in record["files"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelLoadError(f"{path} lacks entries or has unknown ones ({error})") from error
    for name, expected in files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            raise ModelLoadError(f"{path} is missing")
        if size != expected.num_bytes:
            raise ModelLoadError(
                f"{path} is damaged: it has {size} bytes, expected {expected.num_bytes}"
            )
    return files


def verify_model(folder: Path, stamps: Path | None = None) -> None:
    """Check the files' SHA-256 (reads the whole folder: 0.3 to 1 s)."""
    files = check_model(folder)
    refuse_damaged({folder / name: file.sha256 for name, file in files.items()}, stamps)


def refuse_damaged(expected: Mapping[Path, str], stamps: Path | None) -> None:
    """Raises: ModelLoadError naming the first file with an unexpected SHA-256."""
    for path, wanted in expected.items():
        try:
            actual = known_sha256(path, stamps)
        except OSError as error:
            raise ModelLoadError(f"{error.filename} cannot be read: {error.strerror}") from error
        if actual != wanted:
            raise ModelLoadError(f"{path} is damaged: its SHA-256 is {actual}, expected {wanted}")


def is_gguf_name(name: str) -> bool:
    """Return whether a model's name is a GGUF file's, existing or not."""
    path = Path(name).expanduser()
    is_file = path.suffix.lower() == ".gguf" or path.is_file()
    return name != DEFAULT_MODEL and is_file and not path.is_dir()


def gguf_kinds(path: Path) -> dict[str, str]:
    """Return the matrices' kinds by checkpoint name: "F16", "Q4_0" …"""
    header = _checked(path)
    stored = ((name, header.tensors[key]) for key, name in checkpoint_names(header).items())
    return {name: tensor.kind for name, tensor in stored if len(tensor.shape) == 2}


def converted_folder(path: Path, data_dir: Path) -> Path | None:
    """Return the folder for a file whose checksum is known, existing or not; else None."""
    stamps, path = data_dir / "cache" / STAMPS_NAME, path.expanduser().absolute()
    if str(path) not in read_json_object(stamps) or not path.is_file():
        return None
    return data_dir / "models" / "gguf" / known_sha256(path, stamps)[:16]


def ensure_gguf_model(
    path: Path, data_dir: Path, on_progress: Progress, *, whole: bool = False
) -> Path:
    """Return the folder of a GGUF file's model, converted on first use."""
    path = _existing(path)
    before = converted_folder(path, data_dir)
    header = _checked(path) if before is None or not before.exists() else None
    stamps = data_dir / "cache" / STAMPS_NAME
    models = data_dir / "models" / "gguf"
    with storing(f"{path.name} converted", models, ModelLoadError):
        on_progress(f"Reading {path.name}", 0.0)
        sha256 = known_sha256(path, stamps)
        folder = models / sha256[:16]

        def is_there() -> bool:
            return is_complete(folder, lambda made: verify_model(made, None if whole else stamps))

        def make(staging: Path) -> Path:
            rest = part_of(on_progress, CHECKSUM_FRACTION, 1)
            # An upper bound of the folder: four bytes a weight, and a copy of the blocks.
            tensors = (header or _checked(path)).tensors.values()
            sizes = (4 * math.prod(tensor.shape) + tensor.num_bytes for tensor in tensors)
            source = GgufSource(path.stem, path.name, sha256, sum(sizes) + TOKENIZER_BYTES)
            return make_gguf_folder(path, source, staging, rest)

        if not is_there():
            make_once(folder, is_there, make, on_progress)
    return folder


def is_complete(folder: Path, check: CheckFolder) -> bool:
    """Return whether the folder passes. Raises: ModelLoadError for another program's folder."""
    if not folder.exists():
        return False
    if not (folder / MANIFEST_NAME).exists():
        raise ModelLoadError(
            f"{folder} has no {MANIFEST_NAME}, so this program did not make it: "
            "move it away, or load it by its path"
        )
    try:
        check(folder)
    except ModelLoadError as error:
        logger.warning("making %s again: %s", folder.name, error)
        return False
    return True


def make_gguf_folder(gguf: Path, source: GgufSource, staging: Path, on_progress: Progress) -> Path:
    """Convert a GGUF file into a folder in ``staging``."""
    check_free_space(staging, source.num_bytes)
    made = staging / "model"
    made.mkdir()
    _convert(source, gguf, made, on_progress)
    write_manifest(made, source)
    return made


def _existing(path: Path) -> Path:
    path = path.expanduser().absolute()
    if not path.is_file():
        raise ModelLoadError(f"no model {str(path)!r}: there is no such file. Check the path")
    return path


def _checked(path: Path) -> GgufHeader:
    header = read_gguf_header(_existing(path))
    check_gguf(header)
    return header


def _convert(source: GgufSource, gguf: Path, made: Path, on_progress: Progress) -> None:
    """Convert in a child process, silent and offline."""
    on_progress(f"Converting {source.name}", 0.0)

    reported = 0

    def report(output: str) -> None:
        nonlocal reported
        progress = reported_progress(output)
        for message, fraction in progress[reported:]:
            on_progress(f"Converting {source.name}: {message}", fraction)
        reported = len(progress)

    result = run_module(
        "sol_core.files.gguf_conversion",
        [str(gguf), str(made), *filter(None, [source.eos_token])],
        made.parent,
        environment={
            "PYTHONPATH": own_python_path(),
            "TRANSFORMERS_VERBOSITY": "error",
            "HF_HUB_OFFLINE": "1",
            "TQDM_DISABLE": "1",
            "CUDA_VISIBLE_DEVICES": "",  # dequantising must not occupy a GPU
        },
        on_poll=report,
    )
    if result.returncode != 0:
        raise ModelLoadError(_explain(source, result))


def _explain(source: GgufSource, result: CompletedProcess[str]) -> str:
    problem = f"converting {source.name} failed"
    if result.returncode < 0:
        return (
            f"{problem}: the process was killed (signal {-result.returncode}), as happens when "
            "memory runs out; it needs about "
            f"{megabytes(2 * source.num_bytes + 500_000_000)}. Close other programs and start again"
        )
    if "No space left on device" in result.stdout:
        return f"{problem}: the disk is full. Free {megabytes(source.num_bytes)} and start again"
    return f"{problem}: {last_line(result.stdout)}. Start again, or reinstall the packages"
