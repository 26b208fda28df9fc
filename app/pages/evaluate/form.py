"""The evaluation form's values and what they mean to the engine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from app.web.calls import read_form
from sol_core.actions import Budget
from sol_core.errors import ConfigError
from sol_core.evaluation.config import REFERENCE_BUDGETS, EvaluationConfig, parse_budgets
from sol_core.fields import from_json

MAX_POLICIES = 6


def budgets_text(budgets: tuple[Budget, ...] | list[Any]) -> str:
    """Budgets as the text box shows them: "0.5,0.6,8; 0.3,0.5,7", or "50%; 65%"."""
    return "; ".join(map(_budget_text, budgets))


def _budget_text(budget: Budget | Any) -> str:
    if isinstance(budget, Budget) and budget.bytes_share is not None:
        return f"{100 * budget.bytes_share:g}%"
    values = budget.as_tuple() if isinstance(budget, Budget) else budget
    return ",".join(f"{value:g}" for value in values)


_DEFAULT = EvaluationConfig()


@dataclass(frozen=True, slots=True)
class EvaluateForm:
    """The form's values as the page sends them; what they mean is checked by the engine."""

    budgets: str = budgets_text(REFERENCE_BUDGETS)
    random: int = 10
    emc: bool = False
    dac: bool = False
    texts: int = _DEFAULT.texts
    windows: int = _DEFAULT.windows
    context: int = _DEFAULT.context
    steps: int = _DEFAULT.steps
    seed: int = _DEFAULT.seed
    sampled: bool = _DEFAULT.sampled
    pollution: bool = _DEFAULT.pollution


DEFAULT_FORM: dict[str, Any] = asdict(EvaluateForm())
_SAME = tuple(name for name in DEFAULT_FORM if hasattr(_DEFAULT, name) and name != "budgets")


def config_from_form(values: dict[str, Any], corpus: str) -> EvaluationConfig:
    """The engine's configuration for the form's values.

    Raises: ConfigError naming the value that is unknown, of the wrong kind or out of range.
    """
    form = read_form(EvaluateForm, values)
    return EvaluationConfig(
        corpus=corpus,
        budgets=parse_budgets(form.budgets.replace("\n", ";")),
        baselines=_baselines(form),
        **{name: getattr(form, name) for name in _SAME},
    )


def form_from_config(record: dict[str, Any]) -> dict[str, Any]:
    """The form's values of a saved configuration.

    Raises: ConfigError when this release cannot read it.
    """
    config = from_json(EvaluationConfig, record)
    names = set(config.baselines)
    return {
        "budgets": budgets_text(config.budgets),
        "random": config.num_random,
        "emc": "emc" in names,
        "dac": "dac" in names,
        **{name: getattr(config, name) for name in _SAME},
    }


def checked_policies(chosen: list[Any], known: list[str]) -> list[str]:
    """The policies to evaluate, the first of which the figures are about.

    Raises: ConfigError when none, too many, or one that is not there is chosen.
    """
    if not chosen:
        raise ConfigError("Choose a policy to evaluate.")
    if len(chosen) > MAX_POLICIES:
        raise ConfigError(f"At most {MAX_POLICIES} policies at once, {len(chosen)} are chosen.")
    for name in chosen:
        if name not in known:
            raise ConfigError(f"There is no policy {str(name)[:80]!r}. It may have been deleted.")
    return list(dict.fromkeys(chosen))


def _baselines(form: EvaluateForm) -> tuple[str, ...]:
    wanted = {f"random:{form.random}": form.random != 0, "emc": form.emc, "dac": form.dac}
    return ("static", *(name for name, is_wanted in wanted.items() if is_wanted))
