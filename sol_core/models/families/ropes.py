"""Rotary embeddings as a transformers config describes them (``rope_parameters``).

Where one changes with a text's length, the context ends before that (``longest_text``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sol_core.errors import ModelLoadError, UnsupportedModelError
from sol_core.models.spec import RopeSpec

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")
_PARTIAL = ("phi3",)  # families whose code in transformers rotates a part of a head


@dataclass(frozen=True, slots=True)
class _Given:
    values: Mapping[str, Any]
    positions: int
    channels: int  # rotated channels of a stored head
    part: int | None  # the same, None where that is all that the decoder has

    def number(self, name: str, default: float | None = None) -> float:
        value = self.values.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelLoadError(
                f"config.json's rope_parameters need a number {name!r}, got {value!r}"
            )
        return float(value)

    @property
    def original_positions(self) -> int:
        return int(self.number("original_max_position_embeddings", self.positions))


def rope_spec(
    values: Mapping[str, Any], config: PretrainedConfig, stored: int, used: int
) -> RopeSpec:
    """Read one of ``rope_parameters``; heads of ``stored`` channels become ``used`` ones."""
    share = values.get("partial_rotary_factor")
    if share not in (None, 1) and config.model_type not in _PARTIAL:
        raise UnsupportedModelError(
            f"partial_rotary_factor = {share} is not supported for {config.model_type}; "
            f"supported: {', '.join(_PARTIAL)}"
        )
    channels = int(stored * (1.0 if share is None else share))
    if channels < 2 or channels % 2 or stored % 2:
        raise UnsupportedModelError(
            f"{channels} rotated of {stored} channels of a head are not supported: channels are "
            "rotated in pairs"
        )
    part = None if channels == used else channels
    given = _Given(values, config.max_position_embeddings, channels, part)
    theta, kind = given.number("rope_theta"), values.get("rope_type", "default")
    match kind:
        case "default":
            return RopeSpec(theta, rotated=part)
        case "dynamic":
            given.number("factor")
            return RopeSpec(theta, rotated=part)
        case "linear":
            return RopeSpec(theta, "linear", given.number("factor"), rotated=part)
        case "llama3":
            return RopeSpec(
                theta,
                "llama3",
                given.number("factor"),
                given.number("low_freq_factor"),
                given.number("high_freq_factor"),
                given.original_positions,
                rotated=part,
            )
        case "yarn":
            return _yarn(theta, given)
        case "longrope":
            return _longrope(theta, given)
    raise UnsupportedModelError(
        f"rope scaling {kind!r} is not supported; supported: {', '.join(_KINDS)}"
    )


def longest_text(values: Mapping[str, Any], positions: int) -> int:
    """Tokens up to which a rope is what it is from the first token on."""
    if values.get("rope_type") == "longrope":
        return min(positions, _Given(values, positions, 0, None).original_positions)
    return positions


def _yarn(theta: float, given: _Given) -> RopeSpec:
    """YaRN (arXiv:2309.00071), with the defaults of transformers."""
    original = given.original_positions
    factor = given.number("factor", given.positions / original)
    slow, fast = given.number("beta_slow", 1.0), given.number("beta_fast", 32.0)
    ends = [
        given.channels * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))
        for turns in (fast or 32.0, slow or 1.0)
    ]
    if given.values.get("truncate", True):
        ends = [math.floor(ends[0]), math.ceil(ends[1])]
    first, last = max(ends[0], 0), min(ends[1], given.channels - 1)
    return RopeSpec(
        theta,
        "yarn",
        factor,
        original_positions=original,
        rotated=given.part,
        ramp=(float(first), float(last) + (0.001 if first == last else 0.0)),
        amplitude=_unless_one(_yarn_amplitude(given, factor)),
    )


def _yarn_amplitude(given: _Given, factor: float) -> float:
    if given.values.get("attention_factor") is not None:
        return given.number("attention_factor")

    def scale(share: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * share * math.log(factor) + 1.0

    above, below = given.number("mscale", 0.0), given.number("mscale_all_dim", 0.0)
    return scale(above) / scale(below) if above and below else scale(1.0)


def _longrope(theta: float, given: _Given) -> RopeSpec:
    """LongRoPE (arXiv:2402.13753) of texts up to the original length: the short factors."""
    original, divisors = given.original_positions, given.values.get("short_factor")
    if not isinstance(divisors, list) or len(divisors) != given.channels // 2:
        raise ModelLoadError(
            "config.json's rope_parameters need 'short_factor', one number for each of "
            f"{given.channels // 2} pairs of channels"
        )
    factor = given.number("factor", given.positions / original)
    amplitude = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    return RopeSpec(
        theta,
        "longrope",
        factor,
        original_positions=original,
        rotated=given.part,
        divisors=tuple(float(divisor) for divisor in divisors),
        amplitude=_unless_one(given.number("attention_factor", amplitude)),
    )


def _unless_one(amplitude: float) -> float | None:
    return None if amplitude == 1.0 else amplitude
