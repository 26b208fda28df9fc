"""Parts of one kind by their names: ours, imported when they are first asked for, and others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from sol_core.errors import ConfigError

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
# What a message adds after the names that there are.
ELSEWHERE = ", or what a module registers that is imported (on the command line: --plugin MODULE)"


class Registry(Mapping[str, Any]):
    """Parts of one kind.

    Args:
        kind: in messages.
        parts: by their names; "module:attribute" stands for what is there.
        reserved: names of what is built in elsewhere; nothing can be added under one.
    """

    def __init__(self, kind: str, parts: Mapping[str, Any], reserved: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.reserved = reserved
        self._parts = dict(parts)

    def __getitem__(self, name: str) -> Any:
        part = self._parts[name]
        if isinstance(part, str):
            module, _, attribute = part.partition(":")
            part = self._parts[name] = getattr(import_module(module), attribute)
        return part

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def add(self, name: str, part: Any, made_of: Any = None) -> None:
        """Add a part.

        Args:
            name: small letters, digits, - and _.
            part: what configurations will find under it.
            made_of: the function that it holds, where it is none itself.
        Raises: ConfigError for a name that is taken or none, or what cannot be called.
        """
        check_name(self.kind, name, self._parts, part if made_of is None else made_of)
        if name in self.reserved:
            raise ConfigError(f"the {self.kind} {name!r} is built in: choose another name")
        self._parts[name] = part

    def remove(self, name: str) -> None:
        """Forget a part, where there is one.

        Args:
            name: it was added under.
        """
        self._parts.pop(name, None)


def check_name(kind: str, name: object, taken: Mapping[str, Any], part: object) -> None:
    """Hold a new part's name to what configurations and files can carry.

    Raises: ConfigError for another name, one that is taken, or what cannot be called.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"the name of a {kind} has small letters, digits, - and _, at most 40; got {name!r:.60}"
        )
    if name in taken:
        raise ConfigError(f"the {kind} {name!r} is registered already: choose another name")
    if not callable(part):
        raise ConfigError(f"the {kind} {name!r} must be a function or a class, got {part!r:.60}")


def missing(kind: str, name: str) -> str:
    """The sentence about a part that a file needs and nobody registered."""
    return (
        f"the {kind} {name!r}, which nothing has registered here: import the module that does "
        "(on the command line: --plugin MODULE)"
    )
