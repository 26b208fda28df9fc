"""Limits of a server for its visitors; ``SOL_LIMITS=new_tokens=512,kept_mb=500`` changes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, NamedTuple

from app.host.errors import AppError
from app.host.hosting import is_public, is_zero_gpu
from sol_core.errors import ConfigError

LIMITS_VARIABLE = "SOL_LIMITS"
UNLIMITED = 0
_CORRECT_IT = "correct or remove it where the server's variables are set"
# Names of releases before SOL_LIMITS: one that is still set would be a limit that does not hold.
_OLD_VARIABLES = ("SOL_MAX_", "SOL_KEEP_", "SOL_ALLOW_", "SOL_SHARE_RUNS", "SOL_ZERO_GPU_SECONDS")


class Range(NamedTuple):
    """Values that one limit may have, and its defaults on one's own machine and a public server."""

    least: int
    most: int
    own: int
    public: int


def _limit(least: int, most: int, own: int, public: int) -> int:
    return field(default=own, metadata={"range": Range(least, most, own, public)})


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one server. ``UNLIMITED`` is 0."""

    concurrent: int = _limit(1, 16, 1, 1)  # runs and questions at once; above 1 on ZeroGPU only
    queue: int = _limit(1, 1000, 32, 32)  # runs and questions that wait, of all visitors together
    runs_per_visitor: int = _limit(1, 100, 3, 3)  # of them
    runs_per_address: int = _limit(1, 1000, UNLIMITED, 8)  # of them
    new_tokens: int = _limit(1, 4096, 4096, 512)  # of one run
    characters: int = _limit(100, 1_000_000, 1_000_000, 20_000)  # of a prompt, or of another text
    kept_runs: int = _limit(1, 1_000_000, UNLIMITED, 100)  # of one visitor; older ones are deleted
    kept_mb: int = _limit(10, 1_000_000, UNLIMITED, 1000)  # of the database; of all uploaded texts
    prefix_mb: int = _limit(0, 1_000_000, 512, 512)  # of memory for texts that were read
    upload_mb: int = _limit(1, 256, 256, 8)  # of one file
    gpu_seconds: int = _limit(10, 120, 30, 30)  # that one run asks ZeroGPU for, at most
    jobs: int = _limit(0, 1, 1, 0)  # 1: visitors may train, evaluate and measure accuracy
    job_minutes: int = _limit(1, 100_000, UNLIMITED, 120)  # at a stretch; a job then fails
    hub: int = _limit(0, 1, 1, 0)  # 1: visitors' jobs may read data sets from the Hub
    share_runs: int = _limit(0, 1, 1, 0)  # 1: whoever has the link of a run may read it

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] = os.environ,
        *,
        public: bool | None = None,
        zero_gpu: bool | None = None,
    ) -> Limits:
        """The limits that the environment asks for. Raises: ConfigError naming the limit."""
        public = is_public() if public is None else public
        zero_gpu = is_zero_gpu() if zero_gpu is None else zero_gpu
        for name in filter(lambda name: name.startswith(_OLD_VARIABLES), environment):
            raise ConfigError(
                f"{name} no longer exists: name the limit in {LIMITS_VARIABLE}, as in "
                f"{LIMITS_VARIABLE}=new_tokens=512,jobs=1 (docs/deployment.md), and remove {name}"
            )
        values = {name: limit.public if public else limit.own for name, limit in RANGES.items()}
        for item in filter(str.strip, environment.get(LIMITS_VARIABLE, "").split(",")):
            name, _, text = (part.strip() for part in item.partition("="))
            values[name] = _value(name, text)
        if values["concurrent"] > 1 and not zero_gpu:
            raise ConfigError(
                f"{LIMITS_VARIABLE}: concurrent={values['concurrent']} needs ZeroGPU, where every "
                "call has a GPU of its own. Here the model works on one run after another: remove "
                "that limit"
            )
        return cls(**values)


RANGES: dict[str, Range] = {limit.name: limit.metadata["range"] for limit in fields(Limits)}


def _value(name: str, text: str) -> int:
    limit = RANGES.get(name)
    if limit is None:
        nearest = get_close_matches(name, RANGES, 1)
        meant = f"; did you mean {nearest[0]!r}" if nearest else ""
        raise ConfigError(
            f"{LIMITS_VARIABLE} has no limit {name!r}{meant}. Allowed are {', '.join(RANGES)}, "
            f"each as name=number: {_CORRECT_IT}"
        )
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    unlimited = limit.own == UNLIMITED
    in_range = value is not None and limit.least <= value <= limit.most
    if value is None or not (in_range or (unlimited and value == UNLIMITED)):
        raise ConfigError(
            f"{LIMITS_VARIABLE}: {name} must be a whole number from {limit.least:,} to "
            f"{limit.most:,}{', or 0 for no limit' if unlimited else ''}, got {text!r}: "
            f"{_CORRECT_IT}"
        )
    return value


class Holder(NamedTuple):
    """A visitor; ``address`` is None where the network does not say it."""

    owner: str
    address: str | None


@dataclass(frozen=True, slots=True)
class Quota:
    """The most of ``what`` that one visitor, one address and all may hold; ``UNLIMITED`` is 0."""

    what: str
    of_visitor: int = UNLIMITED
    of_address: int = UNLIMITED
    of_all: int = UNLIMITED
    remedy: str = "Try again when one has ended."

    def check(self, held: Iterable[Any], owner: str, address: str | None) -> None:
        """Raises: AppError when this visitor may not have one more; held ones are as ``Holder``."""
        all_held = list(held)
        near = [holder for holder in all_held if address is not None and holder.address == address]
        mine = [holder for holder in all_held if holder.owner == owner]
        for whose, counted, most in (
            ("You already have", mine, self.of_visitor),
            ("Your network already has", near, self.of_address),
            ("This server already has", all_held, self.of_all),
        ):
            if UNLIMITED < most <= len(counted):
                raise AppError(
                    f"{whose} {len(counted)} {self.what}, the most that are allowed. {self.remedy}"
                )
