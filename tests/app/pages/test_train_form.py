"""The training form: every field of the configuration, checked on its way in and out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from app.pages.lab.estimate import BASE_MB, estimate
from app.pages.lab.job_forms import GRID_HELP, TRAIN_FORM
from sol_core.actions import ActionGrid
from sol_core.errors import ConfigError
from sol_core.training.config import PRESETS, GrpoConfig, TrainConfig, WarmStartConfig

FIELDS = {field["name"]: field for group in TRAIN_FORM.groups() for field in group["fields"]}


def leaves(kind: Any, before: str = "") -> set[str]:
    found = set()
    for item in dataclasses.fields(kind):
        value = getattr(TrainConfig(), item.name) if not before else None
        if dataclasses.is_dataclass(value):
            found |= leaves(type(value), f"{item.name}.")
        else:
            found.add(before + item.name)
    return found


def test_every_field_of_the_configuration_is_in_the_form_with_its_help() -> None:
    assert set(FIELDS) == leaves(TrainConfig) - {"corpus", "grid.mlp_split"}
    for field in FIELDS.values():
        assert len(field["help"]) > 8, field["name"]
        assert field["help"][0] == field["help"][0].upper()


def test_the_settings_are_documented_as_they_are() -> None:
    """docs/settings.md has a row for every field: its value in each preset and its help."""
    shown = {name: TRAIN_FORM.values_of(preset) for name, preset in PRESETS.items()}
    table = ["| setting | " + " | ".join(shown) + " | meaning |", "|---" * (len(shown) + 2) + "|"]
    for name in FIELDS:
        values = ("" if (value := one[name]) is None else value for one in shown.values())
        table.append(f"| `{name}` | {' | '.join(map(str, values))} | {FIELDS[name]['help']} |")
    text = (Path(__file__).parents[3] / "docs" / "settings.md").read_text("utf-8")
    assert "\n".join(table) == text[text.index("| setting") :].rstrip()


def test_what_the_form_adds_names_fields_that_exist() -> None:
    assert set(GRID_HELP) == {item.name for item in dataclasses.fields(ActionGrid)} - {"mlp_split"}


def test_kinds_follow_the_types() -> None:
    assert FIELDS["grpo.updates"]["kind"] == "integer"
    assert FIELDS["grpo.clip"]["kind"] == "number"
    assert FIELDS["time_limit_minutes"]["kind"] == "optional"
    assert FIELDS["grid.bit_widths"]["kind"] == "levels"
    assert FIELDS["policy.concentration"]["kind"] == "toggle"
    assert "text" not in {field["kind"] for field in FIELDS.values()}, "its words are missing"
    assert list(FIELDS["grpo.reward"]["choices"]) == ["kl", "nll"]
    assert list(FIELDS["grid.quant_site"]["choices"]) == ["mlp_output", "mlp_input"]
    assert list(FIELDS["policy.network"]["choices"]) == ["factored", "joint"]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_the_way_to_the_page_and_back(name: str) -> None:
    values = TRAIN_FORM.values_of(PRESETS[name])
    assert TRAIN_FORM.config_of(values) == PRESETS[name]


def test_levels_are_text_and_whole_bits_stay_whole() -> None:
    values = {"grid.keep_fractions": " 0.2, 0.5 ;1,", "grid.bit_widths": "6, 16"}
    grid = TRAIN_FORM.config_of(values, corpus="x.txt").grid
    assert grid.keep_fractions == (0.2, 0.5, 1.0)
    assert grid.bit_widths == (6, 16)
    assert all(type(bits) is int for bits in grid.bit_widths)
    assert TRAIN_FORM.values_of(TrainConfig(grid=grid))["grid.keep_fractions"] == "0.2, 0.5, 1"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"grpo.updates": 2.5}, "grpo.updates must be a whole number"),
        ({"grpo.updates": -1}, "grpo.updates must be a whole number from 0 to 10,000,000, got -1"),
        ({"grpo.updates": True}, "grpo.updates must be a whole number .* got True"),
        ({"grpo.clip": None}, "grpo.clip must be a number from 0.01 to 10.0, got nothing"),
        ({"grpo.clip": float("nan")}, "grpo.clip must be a number"),
        ({"grpo.reward": "best"}, "grpo.reward must be one of kl, nll"),
        ({"grpo.reward": 3}, "grpo.reward must be one of kl, nll, got 3"),
        ({"grid.keep_fractions": "0.2, many"}, "numbers with commas"),
        ({"grid.keep_fractions": "inf"}, "must be a finite number"),
        ({"grid.keep_fractions": ""}, "distinct and ascending"),
        ({"grid.bit_widths": "6.5"}, "whole number"),
        ({"time_limit_minutes": 0}, "time_limit_minutes"),
        ({"policy.network": "deep"}, "network must be one of"),
        ({"warm_start.texts": 0, "grpo.updates": 0}, "nothing to do"),
        ({"grpo.surprise": 1}, "the form has an unknown field 'grpo.surprise'"),
        ({"corpus.x": 1}, "unknown field 'corpus.x'"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TRAIN_FORM.config_of(values)


def test_an_empty_time_limit_is_none() -> None:
    assert TRAIN_FORM.config_of({"time_limit_minutes": None}).time_limit_minutes is None


def test_the_estimate_grows_with_the_work() -> None:
    quick, standard, paper = (estimate(PRESETS[name]) for name in ("quick", "standard", "paper"))
    assert quick.seconds < standard.seconds < paper.seconds
    assert "Warm start" not in paper.phases
    more = dataclasses.replace(TrainConfig(), grpo=GrpoConfig(rollouts=64))
    assert estimate(more).memory_mb > standard.memory_mb > BASE_MB
    assert estimate(more).phases["Rollouts (GRPO)"] > 3 * standard.phases["Rollouts (GRPO)"]
    wide = dataclasses.replace(TrainConfig(), warm_start=WarmStartConfig(schedules=6))
    assert estimate(wide).phases["Warm start"] > 1.5 * standard.phases["Warm start"]


def test_a_time_limit_cuts_the_estimate() -> None:
    limited = estimate(dataclasses.replace(TrainConfig(), time_limit_minutes=2.0))
    assert limited.limited
    assert limited.seconds == pytest.approx(120)
    assert not estimate(dataclasses.replace(TrainConfig(), time_limit_minutes=9000.0)).limited
