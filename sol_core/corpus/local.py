"""Documents of a user's own file or folder, with their side of the split.

Rows of tables are split by a hash; of ten text files or more, whole files are held out, of fewer
the last tenth of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from sol_core.corpus.documents import (
    HELD_OUT_SHARE,
    SUPPORTED_SUFFIXES,
    Document,
    split_of,
    text_hash,
)
from sol_core.corpus.file_formats import TABLES, read_text_file
from sol_core.errors import CorpusError

FILES_TO_SPLIT_WHOLE = 10
ROWS_TO_RANK = 100  # below this, a hash threshold could hold out nothing
MAX_REMEMBERED = 1_000_000  # hashes kept to find duplicates: about 64 MB


class LocalSource:
    """A file, or all supported files below a folder."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self.files = _find_files(path)
        self.num_bytes = sum(file.stat().st_size for file in self.files)

    @property
    def signature(self) -> str:
        """Changes when a file is added, removed or written to."""
        state = [
            (self._name(file), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files
        ]
        # None stands where a column did, so that texts read by earlier releases are found.
        return hashlib.sha256(repr((state, None)).encode()).hexdigest()

    def documents(self) -> Iterator[Document]:
        """Read everything once, in order; of documents that repeat, only the first."""
        seen: set[int] = set()
        texts = [file for file in self.files if file.suffix.lower() == ".txt"]
        tables = [file for file in self.files if file.suffix.lower() != ".txt"]
        for document in chain(self._text_documents(texts), self._rows(tables)):
            identity = text_hash(document[0])
            if identity not in seen:
                if len(seen) < MAX_REMEMBERED:
                    seen.add(identity)
                yield document

    def _text_documents(self, files: list[Path]) -> Iterator[Document]:
        ranked = sorted(files, key=lambda file: text_hash(self._name(file)))
        whole = len(files) >= FILES_TO_SPLIT_WHOLE
        held_out = set(ranked[: round(len(files) * HELD_OUT_SHARE)]) if whole else set()
        for file in files:
            for text, start, stop in read_text_file(file):
                in_tail = stop > 1 - HELD_OUT_SHARE and start > 0
                is_held_out = file in held_out if whole else in_tail
                yield text, "held_out" if is_held_out else "train"

    def _rows(self, files: list[Path]) -> Iterator[Document]:
        rows = (text for file in files for text in TABLES[file.suffix.lower()](file))
        first = list(islice(rows, ROWS_TO_RANK))
        if len(first) < ROWS_TO_RANK:
            yield from _ranked(first)
            return
        for text in chain(first, rows):
            yield text, split_of(text_hash(text))

    def _name(self, file: Path) -> str:
        return file.name if file == self._root else file.relative_to(self._root).as_posix()


def _ranked(texts: list[str]) -> Iterator[Document]:
    """Hold out the tenth with the lowest hashes: at least one of two different texts."""
    hashes = sorted({text_hash(text) for text in texts})
    count = max(1, round(len(hashes) * HELD_OUT_SHARE)) if len(hashes) > 1 else 0
    held_out = set(hashes[:count])
    for text in texts:
        yield text, "held_out" if text_hash(text) in held_out else "train"


def _find_files(path: Path) -> list[Path]:
    supported = ", ".join(SUPPORTED_SUFFIXES)
    if path.is_dir():
        files = [
            file
            for file in sorted(path.rglob("*"))
            if file.suffix.lower() in SUPPORTED_SUFFIXES
            and file.is_file()
            and file.stat().st_size > 0
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
        if not files:
            raise CorpusError(f"the folder {path} holds no {supported} file with content")
        return files
    if not path.exists():
        raise CorpusError(f"there is no file {path}")
    if not path.is_file():  # opening it could wait for ever, and it is read more than once
        raise CorpusError(
            f"{path} is a pipe, a device or a socket, not a file: write the text to a file, one of "
            f"{supported}, and give its path"
        )
    if path.suffix.lower() not in SUPPORTED_SUFFIXES:
        raise CorpusError(f"{path} is of no supported kind; supported: {supported}")
    return [path]
