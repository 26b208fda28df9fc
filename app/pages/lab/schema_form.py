"""A form made of the fields of a configuration's dataclass, and the configuration of its values.

Values are flat ("grpo.updates": 100), lists are texts, and a budget reads as everywhere on the
page: "50 % attention · 70 % MLP · 8 bits".
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args, get_origin

from sol_core.actions import AXES, Budget, record_of
from sol_core.errors import ConfigError
from sol_core.evaluation.config import parse_budgets
from sol_core.fields import OneOf, Range, from_json, kind_of

ConfigT = TypeVar("ConfigT")
MOST_BOUND = 2**53  # larger numbers a browser does not tell from each other


class Item(typing.NamedTuple):
    """A field of the form: its dotted name, its dataclass's field, its type, what is allowed."""

    name: str
    of: dataclasses.Field[Any]
    hint: Any
    choices: Mapping[str, str]
    bounds: Range | None

    @property
    def kind(self) -> str:
        """Its control: a choice, a toggle, a number, or a text of one of three kinds."""
        if get_origin(self.hint) is tuple:
            of = get_args(self.hint)[0]
            if self.choices:
                return "checks"
            return "budgets" if of is Budget else "words" if of is str else "levels"
        if self.choices:
            return "choice"
        if get_origin(self.hint) in (types.UnionType, typing.Union):
            return "optional"
        return {int: "integer", bool: "toggle", str: "text"}.get(self.hint, "number")

    def shown(self, value: Any) -> Any:
        """The form's value for a configuration's."""
        if self.kind == "budgets":
            return "\n".join(map(_budget_text, value))
        if self.kind == "checks":
            return list(value)
        if self.kind in ("words", "levels"):
            return ", ".join(part if isinstance(part, str) else f"{part:g}" for part in value)
        return value

    def read(self, value: Any) -> Any:
        """The JSON of its value. Raises: ConfigError for a text that is none of its kind."""
        if self.kind not in ("budgets", "words", "levels"):
            return value
        if not isinstance(value, str):
            raise ConfigError(f"{self.name} must be text, got {kind_of(value)}")
        if self.kind == "budgets":
            plain = ";".join(_plain(part) for part in re.split(r"[;\n]", value))
            return [record_of(budget) for budget in parse_budgets(plain)]
        parts = [part.strip() for part in value.replace(";", ",").split(",") if part.strip()]
        return parts if self.kind == "words" else [self._number(part) for part in parts]

    def _number(self, text: str) -> float | int:
        try:
            return int(text) if text.isdecimal() else float(text)
        except ValueError as error:
            raise ConfigError(
                f"{self.name} must be numbers with commas between them, got {text[:60]!r}"
            ) from error


@dataclass(frozen=True, slots=True)
class SchemaForm(Generic[ConfigT]):
    """A configuration's form; labels, helps and choices go by the last part of a field's name."""

    config: type[ConfigT]
    elsewhere: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    helps: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def groups(self) -> list[dict[str, Any]]:
        """The form as data: groups in the order of the dataclass, each with its fields."""
        groups: dict[str, dict[str, Any]] = {}
        heads = {part.name: part for part in dataclasses.fields(self.config)}  # type: ignore[arg-type]
        for item in self.items():
            group, _, short = item.name.rpartition(".")
            if group not in groups:
                text = heads[group].metadata.get("help", "") if group else ""
                title = self._label(group) if group else "Run"
                groups[group] = {"title": title, "help": _sentence(text), "fields": []}
            text = item.of.metadata.get("help") or self.helps.get(short, "")
            made: dict[str, Any] = {"name": item.name, "label": self._label(short)}
            made |= {"kind": item.kind, "help": _sentence(text)}
            if item.choices:
                made["choices"] = dict(item.choices)
            if item.bounds and item.bounds.high < MOST_BOUND:
                made |= {"min": item.bounds.low, "max": item.bounds.high}
            groups[group]["fields"].append(made)
        return list(groups.values())

    def values_of(self, config: ConfigT) -> dict[str, Any]:
        """Flat values of every field of the form."""
        values = {}
        for item in self.items():
            group, _, short = item.name.rpartition(".")
            values[item.name] = item.shown(
                getattr(getattr(config, group) if group else config, short)
            )
        return values

    def config_of(self, values: Mapping[str, Any], **others: Any) -> ConfigT:
        """The configuration of the form's values and of ``others``, asked for elsewhere."""
        known = {item.name: item for item in self.items()}
        if unknown := sorted(set(values) - set(known)):
            raise ConfigError(
                f"the form has an unknown field {unknown[0][:60]!r}. Reload the page."
            )
        record: dict[str, Any] = dict(others)
        for name, value in values.items():
            group, _, part = name.rpartition(".")
            (record.setdefault(group, {}) if group else record)[part] = known[name].read(value)
        return from_json(self.config, record)

    def items(self, kind: Any = None, before: str = "") -> Iterator[Item]:
        """Fields of the form, those of an inner dataclass by their dotted names."""
        kind = kind or self.config
        hints = typing.get_type_hints(kind, include_extras=True)
        for part in dataclasses.fields(kind):
            name, hint = before + part.name, hints[part.name]
            if name in self.elsewhere:
                continue
            if dataclasses.is_dataclass(hint):
                yield from self.items(hint, f"{name}.")
                continue
            rule = None
            if get_origin(hint) is Annotated:
                hint, rule = get_args(hint)
            words = get_args(hint) if get_origin(hint) is Literal else ()
            words = tuple(rule.words) if isinstance(rule, OneOf) else words
            choices = dict(self.choices.get(part.name, {}))
            if words:
                choices = {word: choices.get(word, _sentence(word)) for word in words}
            yield Item(name, part, hint, choices, rule if isinstance(rule, Range) else None)

    def _label(self, name: str) -> str:
        return self.labels.get(name) or _sentence(name.replace("_", " "))


def _budget_text(budget: Budget) -> str:
    return budget.words if budget.bytes_share is None else f"{100 * budget.bytes_share:g} % compute"


def _plain(part: str) -> str:
    """A budget as ``parse_budgets`` takes it, of one as the page writes it."""
    values = part.split("·")
    if len(values) != len(AXES):
        return part.replace("compute", "").replace(" %", "%")
    numbers = [re.sub(r"[^\d.]", "", value) or "nothing" for value in values]
    try:
        shares = [float(number) / axis.scale for number, axis in zip(numbers, AXES, strict=True)]
    except ValueError as error:
        raise ConfigError(
            f"the budget {part.strip()[:80]!r} must have a number per axis"
        ) from error
    return ",".join(f"{share:.6g}" for share in shares)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
