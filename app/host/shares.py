"""Shares of what there is little of: so much for a visitor, for a network address, for everybody.

Visitors can make up as many ids as they like and have few addresses, so both are counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from app.host.errors import AppError
from app.host.limits import UNLIMITED


class Held(Protocol):
    """Something that a visitor has, or had asked for."""

    @property
    def owner(self) -> str: ...

    @property
    def address(self) -> str | None: ...


class Holder(NamedTuple):
    """A visitor; ``address`` is None where the network does not say it."""

    owner: str
    address: str | None


HeldT = TypeVar("HeldT", bound=Held)


@dataclass(frozen=True, slots=True)
class Shares:
    """The most of something that may be held at once; ``UNLIMITED`` is 0.

    Attributes:
        what: it, in the plural, as in "You already have 3 runs in line".
        of_visitor, of_address, of_all: of one visitor, of one network address, together.
        remedy: what to do beyond that.
    """

    what: str
    of_visitor: int = UNLIMITED
    of_address: int = UNLIMITED
    of_all: int = UNLIMITED
    remedy: str = "Try again when one has ended."

    def excess(
        self, held: Iterable[HeldT], owner: str, address: str | None
    ) -> tuple[str, list[HeldT]] | None:
        """The reason against another one for this visitor, and those that count; None for none."""
        all_held = list(held)
        near = [share for share in all_held if address is not None and share.address == address]
        mine = [share for share in all_held if share.owner == owner]
        for whose, counted, most in (
            ("You already have", mine, self.of_visitor),
            ("Your network already has", near, self.of_address),
            ("This server already has", all_held, self.of_all),
        ):
            if UNLIMITED < most <= len(counted):
                return (
                    f"{whose} {len(counted)} {self.what}, the most that are allowed. {self.remedy}",
                    counted,
                )
        return None

    def check(self, held: Iterable[Held], owner: str, address: str | None) -> None:
        """Raises: AppError when this visitor may not have another one."""
        if (excess := self.excess(held, owner, address)) is not None:
            raise AppError(excess[0])
