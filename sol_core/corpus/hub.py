"""Stream a Hugging Face Hub data set: nothing but the part that is read is downloaded."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sol_core.corpus.documents import Split, split_of, text_hash
from sol_core.corpus.names import HubDataSet
from sol_core.corpus.table_files import choose_column
from sol_core.errors import CorpusError
from sol_core.progress import Progress

SHUFFLE_BUFFER = 1_000  # documents held back to draw from


@dataclass(frozen=True, slots=True)
class HubStream:
    """An opened Hub data set; every reading starts at its first row.

    Attributes:
        source: its name, as requested.
        fingerprint: hex, of the name of what is read; the same however that was written.
        dataset: a ``datasets.IterableDataset``; the package ships no types.
    """

    source: str
    column: str
    fingerprint: str
    dataset: Any

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
    """Open a part of the data set, train or its first where none is named, and look at one row.

    Args:
        source: "owner/name:config:part:column", see ``HubDataSet``.
        cache_dir: for what ``datasets`` keeps.
    Raises: CorpusError when it does not exist, cannot be reached, has no such part or no text
        column.
    """
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
