"""A kind of thing that can be shared: its id, title, writers and reader, and their source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from app.lens.report import Look
from storage import Store


class ModelCalls(Protocol):
    """Calls that need a loaded model; the page has one, the command line's export has none."""

    def dense_nll(self, run_ids: tuple[str, str]) -> list[list[float | None] | None]:
        """Of two generations, every token's NLL under the dense model, nats; None where not known.

        Raises: SolError while the model is busy.
        """

    def look(self, run_id: str, index: int, row: int | None, bit_width: int | None) -> Look:
        """One token of a run under every level of every axis.

        Args:
            row: of an inspection; None for a generation.
            bit_width: of the joint grid; None for none.
        Raises: SolError while the model is busy, or where another one made the run.
        """


@dataclass(frozen=True, slots=True)
class Source:
    """The database, and the model's answers or None."""

    store: Store
    model: ModelCalls | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing that can be shared.

    Attributes:
        format, version: in its JSON documents; the version rises with every change that an older
            release would misread.
        address: parameter that names it in a link, and the tab that shows it; None where a link
            names none.
        owns: whether an id is that of one of this kind.
        title: what to call the thing with this id.
        write: its document, without the envelope.
        texts: its further forms, such as "csv", as text; some kinds have no page.
        read: check a document, save it for an owner, return the new id; or, of what cannot be
            imported, a sentence that says why.
    """

    format: str
    version: int
    address: tuple[str, str] | None
    owns: Callable[[Store, str], bool]
    title: Callable[[Store, str], str]
    write: Callable[[Source, str], dict[str, Any]]
    texts: Mapping[str, Callable[[Source, str], str]]
    read: Callable[[Store, str, dict[str, Any]], str] | str
