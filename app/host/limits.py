"""Limits of a server for its visitors, set by environment variables.

One table: every limit has a variable, a range, a default on one's own machine and another on a
public server. docs/deployment.md lists it (a test compares them).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from app.host.hosting import is_public, is_zero_gpu
from sol_core.errors import ConfigError

UNLIMITED = 0


class Variable(NamedTuple):
    """One limit.

    Attributes:
        least, most: what is allowed; ``UNLIMITED`` as well where ``own`` is that.
        own, public: defaults on one's own machine and on a public server.
    """

    name: str
    least: int
    most: int
    own: int
    public: int
    meaning: str


def _limit(name: str, least: int, most: int, own: int, public: int, meaning: str) -> int:
    variable = Variable(name, least, most, own, public, meaning)
    return field(default=own, metadata={"variable": variable})


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one server. ``UNLIMITED`` is 0."""

    # fmt: off
    concurrent: int = _limit("SOL_MAX_CONCURRENT", 1, 16, 1, 1,
        "runs and questions that the model works on at once; above 1 on ZeroGPU only")
    line: int = _limit("SOL_MAX_LINE", 1, 1000, 32, 32,
        "runs and questions that may wait for the model, all visitors together")
    runs_per_visitor: int = _limit("SOL_MAX_RUNS_PER_VISITOR", 1, 100, 3, 3,
        "of them by one visitor")
    runs_per_address: int = _limit("SOL_MAX_RUNS_PER_ADDRESS", 1, 1000, UNLIMITED, 8,
        "of them from one network address")
    new_tokens: int = _limit("SOL_MAX_NEW_TOKENS", 1, 4096, 4096, 512,
        "tokens that one run generates")
    characters: int = _limit("SOL_MAX_PROMPT_CHARACTERS", 100, 1_000_000, 1_000_000, 20_000,
        "characters of a prompt, or of a text to inspect")
    kept_runs: int = _limit("SOL_KEEP_RUNS_PER_VISITOR", 1, 1_000_000, UNLIMITED, 100,
        "saved runs of one visitor; older ones are deleted")
    kept_mb: int = _limit("SOL_KEEP_MB", 10, 1_000_000, UNLIMITED, 1000,
        "size of the SQLite database, and of all uploaded texts; the oldest runs are deleted")
    upload_mb: int = _limit("SOL_MAX_UPLOAD_MB", 1, 256, 256, 8,
        "size of one uploaded file")
    gpu_seconds: int = _limit("SOL_ZERO_GPU_SECONDS", 10, 120, 30, 30,
        "seconds of GPU that one run asks ZeroGPU for, at most")
    jobs: int = _limit("SOL_ALLOW_JOBS", 0, 1, 1, 0,
        "1: visitors may train, evaluate and measure accuracy")
    job_minutes: int = _limit("SOL_MAX_JOB_MINUTES", 1, 100_000, UNLIMITED, 120,
        "minutes that a job works at a stretch; it then fails, its checkpoint kept")
    hub: int = _limit("SOL_ALLOW_HUB", 0, 1, 1, 0,
        "1: visitors' jobs may read data sets from the Hub")
    share_runs: int = _limit("SOL_SHARE_RUNS", 0, 1, 1, 0,
        "1: whoever has the link of a run may read it")
    # fmt: on

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] = os.environ,
        *,
        public: bool | None = None,
        zero_gpu: bool | None = None,
    ) -> Limits:
        """The limits that the environment asks for.

        Args:
            public, zero_gpu: whose defaults hold and what is possible; None looks.
        Raises: ConfigError naming the variable, what it may be and what it is.
        """
        public = is_public() if public is None else public
        zero_gpu = is_zero_gpu() if zero_gpu is None else zero_gpu
        values = {
            field.name: _value(field.metadata["variable"], environment, public)
            for field in fields(cls)
        }
        if values["concurrent"] > 1 and not zero_gpu:
            raise ConfigError(
                f"SOL_MAX_CONCURRENT={values['concurrent']} needs ZeroGPU, where every call has a "
                "GPU of its own. Here the model works on one run after another: remove the "
                "variable"
            )
        return cls(**values)


VARIABLES: tuple[Variable, ...] = tuple(one.metadata["variable"] for one in fields(Limits))


def _value(variable: Variable, environment: Mapping[str, str], public: bool) -> int:
    text = environment.get(variable.name, "").strip()
    if not text:
        return variable.public if public else variable.own
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    unlimited = variable.own == UNLIMITED
    if value is None or not (
        variable.least <= value <= variable.most or (unlimited and value == UNLIMITED)
    ):
        raise ConfigError(
            f"{variable.name} must be a whole number from {variable.least:,} to "
            f"{variable.most:,}{', or 0 for no limit' if unlimited else ''}, got {text!r}: "
            "correct or remove it where the server's variables are set"
        )
    return value
