"""Limits of a server for its visitors, set by environment variables.

One table: every limit has a variable, a range, a default on one's own machine and another on a
public server. docs/deployment.md lists it (a test compares them).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from app.host.hosting import is_public, is_zero_gpu
from sol_core.errors import ConfigError

UNLIMITED = 0


class Variable(NamedTuple):
    """One limit.

    Attributes:
        field: of ``Limits``.
        least, most: what is allowed; ``UNLIMITED`` as well where ``own`` is that.
        own, public: defaults on one's own machine and on a public server.
    """

    name: str
    field: str
    least: int
    most: int
    own: int
    public: int
    meaning: str


VARIABLES = (
    Variable("SOL_MAX_CONCURRENT", "concurrent", 1, 16, 1, 1,
             "runs and questions that the model works on at once; above 1 on ZeroGPU only"),
    Variable("SOL_MAX_LINE", "line", 1, 1000, 32, 32,
             "runs and questions that may wait for the model, all visitors together"),
    Variable("SOL_MAX_RUNS_PER_VISITOR", "runs_per_visitor", 1, 100, 3, 3,
             "of them by one visitor"),
    Variable("SOL_MAX_RUNS_PER_ADDRESS", "runs_per_address", 1, 1000, UNLIMITED, 8,
             "of them from one network address"),
    Variable("SOL_MAX_NEW_TOKENS", "new_tokens", 1, 4096, 4096, 512,
             "tokens that one run generates"),
    Variable("SOL_MAX_PROMPT_CHARACTERS", "characters", 100, 1_000_000, 1_000_000, 20_000,
             "characters of a prompt, or of a text to inspect"),
    Variable("SOL_KEEP_RUNS_PER_VISITOR", "kept_runs", 1, 1_000_000, UNLIMITED, 100,
             "saved runs of one visitor; older ones are deleted"),
    Variable("SOL_KEEP_MB", "kept_mb", 10, 1_000_000, UNLIMITED, 1000,
             "size of the SQLite database, and of all uploaded texts; the oldest runs are deleted"),
    Variable("SOL_MAX_UPLOAD_MB", "upload_mb", 1, 256, 256, 8,
             "size of one uploaded file"),
    Variable("SOL_ZERO_GPU_SECONDS", "gpu_seconds", 10, 120, 30, 30,
             "seconds of GPU that one run asks ZeroGPU for, at most"),
    Variable("SOL_ALLOW_JOBS", "jobs", 0, 1, 1, 0,
             "1: visitors may train, evaluate and measure accuracy"),
    Variable("SOL_MAX_JOB_MINUTES", "job_minutes", 1, 100_000, UNLIMITED, 120,
             "minutes that a job works at a stretch; it then fails, its checkpoint kept"),
    Variable("SOL_ALLOW_HUB", "hub", 0, 1, 1, 0,
             "1: visitors' jobs may read data sets from the Hub"),
    Variable("SOL_SHARE_RUNS", "share_runs", 0, 1, 1, 0,
             "1: whoever has the link of a run may read it"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one server; the meanings are in ``VARIABLES``. ``UNLIMITED`` is 0."""

    concurrent: int = 1
    line: int = 32
    runs_per_visitor: int = 3
    runs_per_address: int = UNLIMITED
    new_tokens: int = 4096
    characters: int = 1_000_000
    kept_runs: int = UNLIMITED
    kept_mb: int = UNLIMITED
    upload_mb: int = 256
    gpu_seconds: int = 30
    jobs: int = 1
    job_minutes: int = UNLIMITED
    hub: int = 1
    share_runs: int = 1

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
        values = {one.field: _value(one, environment, public) for one in VARIABLES}
        if values["concurrent"] > 1 and not zero_gpu:
            raise ConfigError(
                f"SOL_MAX_CONCURRENT={values['concurrent']} needs ZeroGPU, where every call has a "
                "GPU of its own. Here the model works on one run after another: remove the "
                "variable"
            )
        return cls(**values)


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
