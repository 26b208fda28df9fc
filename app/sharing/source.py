"""Sources of exported things: the database, and the model where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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
