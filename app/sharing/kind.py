"""A kind of thing that can be shared: its id, title, writers and reader, and their source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from storage import Store


class ModelCalls(Protocol):
    """Calls that need a loaded model; the page has one, the command line's export has none."""

    def dense_nll(self, run_ids: tuple[str, str]) -> list[list[float | None] | None]:
        """Of two generations, every token's NLL under the dense model, nats; None where not known.

        Raises: SolError while the model is busy.
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
        address: parameter that names it in a link, and the tab that shows it.
        owns: whether an id is that of one of this kind.
        title: what to call the thing with this id.
        texts: its forms, such as "csv", as text.
        format, version: in its JSON documents; the version rises with every change that an older
            release would misread.
        read: check a document, save it for an owner, return the new id; None where files of it are
            not imported.
    """

    address: tuple[str, str]
    owns: Callable[[Store, str], bool]
    title: Callable[[Store, str], str]
    texts: Mapping[str, Callable[[Source, str], str]]
    format: str = ""
    version: int = 0
    read: Callable[[Store, str, dict[str, Any]], str] | None = None
