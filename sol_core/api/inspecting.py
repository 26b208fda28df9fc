"""Inspect a text, or try other actions at one of its tokens, each in one call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sol_core.actions import SHORT_AXES
from sol_core.api.arguments import check_model, methods_by_name
from sol_core.errors import ConfigError
from sol_core.fields import changed, check_kind, with_nearest
from sol_core.reporting.figures import Line, Panel, framed, plot

if TYPE_CHECKING:
    from sol_core.actions import Budget
    from sol_core.decoding.batch_scheduling import Schedule
    from sol_core.inspection.records import (
        InspectedToken,
        InspectionConfig,
        InspectionEnd,
        InspectionStart,
    )
    from sol_core.lens.records import LensView
    from sol_core.models.loading import LanguageModel
    from sol_core.policy.policy import Policy


@dataclass(frozen=True, slots=True)
class Inspection:
    """A text scored token by token under several schedules.

    Attributes:
        start: the rows' names and the prefix.
        tokens: each scored token, with a row per schedule.
        end: totals per row, and the report.
        text, model, config: the request, with the grid resolved.
    """

    start: InspectionStart
    tokens: tuple[InspectedToken, ...]
    end: InspectionEnd
    text: str
    model: str
    config: InspectionConfig

    def __repr__(self) -> str:
        rows = ", ".join(map(repr, self.start.rows))
        return f"Inspection({len(self.tokens):,} tokens; rows {rows})"

    def _repr_html_(self) -> str:
        """HTML for a notebook: the page's own coloured text, card and charts, in a frame."""
        events = [self.start.to_dict(), *(token.to_dict() for token in self.tokens)]
        events.append(self.end.to_dict())
        return framed("inspection", self.text, self.model, self.config.to_dict(), events)

    def plot(self) -> Any:
        """Figure of every token's NLL and KL to the full model, by row."""
        at = [token.index for token in self.tokens]
        losses = {"NLL, nats": "nll", "KL to dense, nats": "kl"}
        return plot(
            [
                Panel("token", title, [self._line(row, name, at) for row in self.start.rows])
                for title, name in losses.items()
            ]
        )

    def _line(self, row: str, name: str, at: list[int]) -> Line:
        index = self.start.rows.index(row)
        return Line(row, at, [getattr(token.rows[index], name) for token in self.tokens])

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` of a row per token and schedule; pandas must be installed."""
        rows = [
            {"index": token.index, "token_id": token.token_id, "text": token.text}
            | {"kind": token.kind, "cached_tokens": token.cached_tokens, "method": row.name}
            | dict(zip(SHORT_AXES, row.action.as_tuple(), strict=True))
            | {"nll": row.nll, "kl": row.kl, "entropy": row.entropy}
            | {"bytes_read": row.cost.bytes_read, "flops": row.cost.flops}
            for token in self.tokens
            for row in token.rows
        ]
        return import_module("pandas").DataFrame(rows)


def inspect(
    model: LanguageModel,
    text: str,
    methods: Mapping[str, Policy | Schedule | str] | Policy | Schedule | str,
    budget: Budget | None = None,
    *,
    config: InspectionConfig | None = None,
    **settings: Any,
) -> Inspection:
    """Score a text token by token under several schedules, beside the full model.

    Args:
        model: as returned by ``load_model``.
        text: at least two tokens.
        methods: up to three methods by name, or a single one: a policy, your own schedule, or
            "static", "random", "emc" or "dac". Rows of policies and your own schedules are named
            "policy:NAME".
        budget: the budget of all methods that take one; own schedules may do without.
        config: everything else; None is the default.
        settings: fields of ``InspectionConfig`` to change.
    Returns: the rows' names, a row of numbers per token and method, and totals.
    Raises: SolError for a request that cannot run.
    """
    from sol_core.generation.schedules import with_grid
    from sol_core.inspection.engine import inspect_text

    check_model(model)
    check_kind("text", text, str, "text")
    chosen, find = _asked(config, settings, methods, budget)
    events: list[Any] = list(inspect_text(model, text, chosen, policies=find))
    used = with_grid(chosen, find)
    return Inspection(events[0], tuple(events[1:-1]), events[-1], text, model.name, used)


@with_nearest
def what_if(
    model: LanguageModel,
    text: str,
    token: int,
    schedule: Policy | Schedule | str | None = None,
    budget: Budget | None = None,
    *,
    config: InspectionConfig | None = None,
    without: Sequence[int] = (),
) -> LensView:
    """Decode one step of a text at each level of each axis.

    Args:
        model: as returned by ``load_model``.
        text: at least two tokens.
        token: index of the token; 0 is the first scored one.
        schedule: schedule of the other steps and axes, as for ``inspect``; None is the full model.
        budget: the schedule's budget.
        config: grid and prefix; None is the default.
        without: pages of the KV cache to leave out once, for ``LensView.without``.
    Returns: NLL, KL and entropy in nats at each level, and the effect on the following tokens.
    Raises: ConfigError for a token or page that the text does not have; SolError.
    """
    from sol_core.lens.engine import Lens, run_of_text

    check_model(model)
    check_kind("text", text, str, "text")
    check_kind("token", token, int, "the number of a token")
    for number, page in enumerate(without):
        check_kind(f"without[{number}]", page, int, "the number of a page")
    if isinstance(schedule, Mapping):
        raise ConfigError("what_if takes one schedule, not several by name")
    chosen, find = _asked(config, {}, {} if schedule is None else schedule, budget)
    run, _ = run_of_text(model, text, token, chosen, find)
    return Lens(model, run).look(token, without)


def _asked(
    config: InspectionConfig | None,
    settings: Mapping[str, Any],
    methods: Any,
    budget: Budget | None,
) -> tuple[InspectionConfig, Callable[[str], Any]]:
    """Return the configuration with the methods' schedules, and a finder of methods by name."""
    from sol_core.generation.schedules import schedule_configs
    from sol_core.inspection.records import InspectionConfig

    asked = InspectionConfig(()) if config is None else config
    check_kind("config", asked, InspectionConfig, "an InspectionConfig")
    asked = changed(asked, settings)
    if asked.schedules:
        raise ConfigError("the schedules are the methods: leave those of the configuration out")
    schedules, find = schedule_configs(methods_by_name(methods), budget)
    return dataclasses.replace(asked, schedules=schedules), find
