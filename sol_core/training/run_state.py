"""State of a training run, shared by all phases, and its numbered texts."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from sol_core.corpus.blocks import token_blocks
from sol_core.corpus.load import Corpus, load_corpus
from sol_core.errors import TrainingDivergedError
from sol_core.models.loading import LanguageModel
from sol_core.policy.files.folder import prices_from_record, prices_record
from sol_core.policy.info import InputLayout, PolicyInfo
from sol_core.policy.network import DamageNetwork, build_network
from sol_core.policy.policy import Policy
from sol_core.policy.prices import PriceTable
from sol_core.progress import WorkCheckpoint, WorkProgress
from sol_core.training.checkpoint import RunProgress, read_checkpoint, restore, write_checkpoint
from sol_core.training.config import (
    MEASURE_EVERY_S,
    MEASURE_FRACTION,
    MEASURE_REST,
    MEASURES_PER_PHASE,
    PRICED_TEXTS,
    SCHEDULES,
    Phase,
    TrainConfig,
)
from sol_core.training.text_prefill import TextPrefill

CHECKPOINT_S = 20.0  # at most this much work is lost in a crash
MAX_GRADIENT_NORM = 1.0


class TrainingTexts:
    """Blocks of ``config.block_len`` tokens of a corpus, reshuffled on every pass."""

    def __init__(self, model: LanguageModel, config: TrainConfig, data_dir: Path) -> None:
        self._model, self._config, self._data_dir = model, config, data_dir
        self._streams: dict[str, tuple[int, Iterator[list[int]]]] = {}
        self._corpus: Corpus | None = None

    def open(self) -> str:
        """Open the corpus and read its first text; return the corpus's fingerprint."""
        self._corpus = load_corpus(self._config.corpus, data_dir=self._data_dir, split="train")
        next(self._endless("label"))
        return self._corpus.fingerprint

    def held_out(self, count: int) -> list[list[int]]:
        """Return at least one and at most ``count`` texts that training never sees."""
        corpus = load_corpus(self._config.corpus, data_dir=self._data_dir, split="held_out")
        return list(self._cut(corpus, seed=0, limit=count))

    def nth(self, stream: str, number: int) -> list[int]:
        """Return a text of the stream "label", "grpo" (another order) or "papers"."""
        read, blocks = self._streams.get(stream, (number + 1, iter(())))
        if read > number:
            read, blocks = 0, self._endless(stream)
        self._streams[stream] = number + 1, blocks
        return next(islice(blocks, number - read, None))

    def _endless(self, stream: str) -> Iterator[list[int]]:
        corpus, turn = self._corpus, 500_000 if stream == "grpo" else 0
        if stream == "papers":
            corpus = load_corpus(stream, data_dir=self._data_dir, split="train")
        assert corpus is not None
        while True:
            yield from self._cut(corpus, self._config.seed * 1_000_003 + turn)
            turn += 1

    def _cut(self, corpus: Corpus, seed: int, limit: int | None = None) -> Iterator[list[int]]:
        how = self._model.tokenizer, self._config.block_len
        return token_blocks(corpus.shuffled(seed), *how, limit=limit, prompts=True)


class RunState:
    """Model, policy, optimiser and progress of a run; makes its reports and checkpoints."""

    def __init__(
        self, model: LanguageModel, config: TrainConfig, folder: Path, data_dir: Path
    ) -> None:
        self.model, self.config, self.folder = model, config, folder
        self.texts = TrainingTexts(model, config, data_dir)
        layout = InputLayout.of(model.spec, config.policy)
        torch.manual_seed(config.seed)
        network = build_network(layout, config.grid, config.policy, config.steps)
        network.to(model.lm.device)
        parameters = network.parameters()
        self.optimiser = torch.optim.AdamW(parameters, weight_decay=0.1, betas=(0.9, 0.98))
        self.progress = RunProgress(phase="labelling" if config.warm_start.texts else "grpo")
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = read_checkpoint(folder, config.to_dict())
        if checkpoint is not None:
            self.progress, tensors = checkpoint
            restore(network, self.optimiser, tensors)
        info = PolicyInfo(
            name=folder.name,
            model=model.name,
            fingerprint=model.fingerprint,
            grid=config.grid,
            config=config.policy,
            layout=layout,
            episode_steps=config.steps,
            num_parameters=sum(value.numel() for value in network.parameters()),
        )
        prices, states = prices_from_record(asdict(self.progress))
        self.policy = Policy(info, network, prices, model.lm.weights.embedding, states)
        if not prices and isinstance(network, DamageNetwork):
            self._price_untrained(network)
        self.metrics: dict[str, float] = {}
        self.held_out: list[TextPrefill] = []  # never trained on
        # Not in checkpoints: an interrupted calibration restarts.
        self.calibrated, self.unsaved_reports = 0, 0
        self._began = time.monotonic()
        self._before_s = self.progress.elapsed_s
        self.decisions, self._decisions_since = 0, self._began  # for the next report
        self._last_checkpoint = self._began
        self._measured_at, self._measure_s = self._began, 0.0
        self._idle_s = 0.0  # working time before any progress

    @property
    def elapsed_s(self) -> float:
        """Working time in seconds, without interruptions."""
        return self._before_s + time.monotonic() - self._began

    def is_past(self, end: float) -> bool:
        """Return whether a fraction of the time limit, less the minimal ending, has passed."""
        limit = self.config.time_limit_minutes
        if limit is None:
            return False
        texts = 1 + PRICED_TEXTS / self.config.measured_texts
        last_s = texts * self._measure_s if end < 1 else 0.0
        return self.elapsed_s > (60 * limit - last_s) * end

    def seed_of(self, unit: str, number: int) -> int:
        """Derive the seed of a unit of work from the run's seed and the unit's number."""
        text = f"{self.config.seed} {unit} {number}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:6], "big")

    def generator_of(self, unit: str, number: int) -> torch.Generator:
        """Return a random generator seeded by ``seed_of``."""
        return torch.Generator().manual_seed(self.seed_of(unit, number))

    def set_prices(self, tables: Sequence[PriceTable]) -> None:
        """Set prices and drop the sample states, which belong to the old prices."""
        self.policy.prices, self.policy.states = list(tables), None
        self.keep_prices()

    def keep_prices(self) -> None:
        """Put the policy's prices and sample states into the next checkpoint."""
        kept = prices_record(self.policy.prices, self.policy.states)
        self.progress.prices, self.progress.states = kept["prices"], kept["states"]

    def optimiser_step(self, losses: Iterable[Tensor], rate: float) -> float:
        """Take one gradient step on the sum of the losses; return the sum."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros(())
        for loss in losses:
            loss.backward()
            total += loss.detach().cpu()
        parameters = list(self.policy.network.parameters())
        norm = nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        self.check_finite({"the loss": total, "the gradient": norm})
        self.optimiser.step()
        return float(total)

    def check_finite(self, numbers: Mapping[str, Tensor | float]) -> None:
        """Raises: TrainingDivergedError naming the first non-finite number."""
        for name, value in numbers.items():
            if not bool(torch.isfinite(torch.as_tensor(value)).all()):
                raise TrainingDivergedError(
                    f"training diverged: {name} is not finite in phase {self.progress.phase!r}, "
                    f"update {self.progress.updates}. The last good checkpoint is kept in "
                    f"{self.folder}; lower the learning rate and start again"
                )

    def report(self, phase: Phase, measured: Mapping[str, float] | None = None) -> WorkProgress:
        """Return the state as an event with new measurements; reset the decision counter."""
        now = time.monotonic()
        metrics = self.metrics | dict(measured or {})
        if self.decisions:
            metrics["decisions_per_s"] = self.decisions / max(1e-6, now - self._decisions_since)
        self.decisions, self._decisions_since = 0, now
        fraction = self.fraction()
        if fraction == 0:
            self._idle_s = self.elapsed_s
        worked_s = self.elapsed_s - self._idle_s
        eta = worked_s * (1 - fraction) / fraction if fraction > 0.01 else None
        if phase == "preparing":
            return WorkProgress(fraction, phase, eta)
        self.progress.reports += 1
        row = {
            "step": self.progress.reports,
            "phase": phase,
            "elapsed_s": self.elapsed_s,
            "metrics": metrics,
        }
        return WorkProgress(fraction, phase, eta, row)

    def fraction(self) -> float:
        """Return the estimated fraction of the work done, in [0, 1]."""
        config, done = self.config, self.progress
        warm, grpo = config.warm_start, config.grpo
        if done.phase == "done":
            return 1.0
        # In units of a decode step: prefill costs about two thirds a token,
        # a gradient step about a thirtieth a labelled step.
        per_text, prefill = config.windows * config.steps, 0.7 * config.block_len
        label_unit = per_text * SCHEDULES + prefill
        update_unit = grpo.windows * grpo.rollouts * config.steps * 1.2 + prefill
        calibration_unit = per_text + prefill
        texts = warm.texts if done.label_limit is None else done.label_limit
        learning = texts * per_text * SCHEDULES * warm.epochs / 30
        total = texts * label_unit + learning + grpo.updates * update_unit
        total += (PRICED_TEXTS + config.calibration_texts) * calibration_unit
        batches = max(1.0, texts * config.windows * SCHEDULES * warm.epochs / 64)
        worked = min(done.labelled, texts) * label_unit + done.updates * update_unit
        worked += learning * min(1.0, done.warm_steps / batches)
        worked += self.calibrated * calibration_unit
        limit = config.time_limit_minutes
        of_time = 0.0 if limit is None else self.elapsed_s / (60 * limit)
        return min(0.999, max(worked / max(total, 1e-9), of_time))

    def is_checkpoint_due(self) -> bool:
        return time.monotonic() >= self._last_checkpoint + CHECKPOINT_S

    def is_measure_due(self, done: int, total: int) -> bool:
        """Return whether the work reached a mark, or enough time has passed."""
        if done % max(1, -(-total // MEASURES_PER_PHASE)) == 0 or done == total:
            return True
        longest = max(MEASURE_FRACTION * self.elapsed_s, MEASURE_REST * self._measure_s)
        rest = max(MEASURE_EVERY_S, longest)
        return time.monotonic() >= self._measured_at + rest

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Count the time in the block as measuring time."""
        began = time.monotonic()
        yield
        self._measured_at = time.monotonic()
        self._measure_s = self._measured_at - began

    def checkpoint(self) -> WorkCheckpoint:
        """Write a checkpoint. Raises: OSError if the disk is full; the last one stays intact."""
        self.progress.elapsed_s = self.elapsed_s
        kept = replace(self.progress, reports=self.progress.reports - self.unsaved_reports)
        write_checkpoint(
            self.folder, self.config.to_dict(), kept, self.policy.network, self.optimiser
        )
        self._last_checkpoint = time.monotonic()
        return WorkCheckpoint()

    @torch.no_grad()
    def _price_untrained(self, network: DamageNetwork) -> None:
        """Set prices from the untrained network's curves, which are near static."""
        spread = torch.linspace(-math.log(2), math.log(2), 65, device=self.model.lm.device)
        pairs = zip(network.base, self.policy.levels, strict=True)
        damages = [((base + spread[:, None]).exp(), levels) for base, levels in pairs]
        self.set_prices([PriceTable.measure(*pair) for pair in damages])
