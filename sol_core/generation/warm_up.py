"""Compiles kernels before somebody waits for them: the CPU's while a model loads, a card's then.

Numba compiles a kernel when it is first called for a number format: 20 to 40 s in all on a busy
machine, once, since the code is cached in ``NUMBA_CACHE_DIR``. Here a tiny random model of the
format in use decodes a few steps, so that whatever kernels the decoder calls are compiled; it
goes through the decode loop and therefore needs no list of them. Only what draws a token is called
by its name. Processes that compile the same kernels take turns (a first start has a page and its
worker): the second one loads what the first compiled.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from kernels.causal_attention import causal_attention
from kernels.cpu.threads import MANY_ROWS
from kernels.kv_blocks import KVBlock
from kernels.quantised_weights import BLOCK, KINDS, GgufBlocks
from sol_core.actions import (
    DEFAULT_GRID,
    DENSE,
    GRIDS,
    Action,
    ActionGrid,
    Budget,
    Mechanisms,
    QuantSite,
)
from sol_core.decoding.batch_scheduling import BatchScheduler, PlannedRows
from sol_core.decoding.loop import DecodeOptions, decode
from sol_core.decoding.prefix import prefill_token
from sol_core.models import FrozenLM
from sol_core.models.card.small_model import SMALL_SPEC, small_tensors
from sol_core.models.devices import pick_device, pick_dtype
from sol_core.models.signals import Observe
from sol_core.models.tuning import TUNING, tune
from sol_core.models.weights import arrange_weights
from sol_core.policy.info import InputLayout, PolicyConfig, PolicyInfo
from sol_core.policy.network import build_network
from sol_core.policy.policy import Policy
from sol_core.policy.prices import PriceTable
from sol_core.policy.scheduler import PolicyScheduler

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel

_LOOK_S = 0.5  # between looks at whether the program ends
COMPILING = "compiling kernels (first start)"
USUAL_S = 60.0  # on two cores
_TELL_S = 15.0
_CONTEXT = 40
_DEFAULT = GRIDS[DEFAULT_GRID].mechanisms
_ACTIONS = (DENSE, Action(0.3, 0.5, 6), Action(0.5, 1.0, 16), Action(1.0, 0.5, 8))


@contextmanager
def turn_to_compile(kind: str) -> Iterator[None]:
    """Hold the turn of one kind of kernels, by a lock file in the cache of compiled code.

    Nobody waits once a kind was compiled to the end, nor where that folder cannot be written, nor
    in a program that ends.
    """
    if (mark := _mark_of(kind)) is None or mark.exists():
        yield
        return
    lock = _acquired(mark.with_suffix(".lock"))
    try:
        yield
        with suppress(OSError):
            mark.touch()
    finally:
        if lock is not None:
            lock.release()


def _mark_of(kind: str) -> Path | None:
    """The file that says that a kind was compiled; None without a folder of compiled code."""
    folder = os.environ.get("NUMBA_CACHE_DIR", "")
    return Path(folder) / f"{kind}.compiled" if folder else None


def _acquired(path: Path) -> FileLock | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        while threading.main_thread().is_alive():
            with suppress(Timeout):
                lock.acquire(timeout=_LOOK_S)
                return lock
    except (OSError, NotImplementedError):  # read only, or a file system without locks
        pass
    return None


def load_warm(
    name: str,
    *,
    data_dir: Path,
    dtype: str,
    device: str = "auto",
    on_progress: Callable[[str, float], None],
    only_once: bool = False,
) -> LanguageModel:
    """``load_language_model``, with the kernels compiled meanwhile, then tuned to the CPU once.

    Args:
        only_once: leave out the kernels where they are compiled: a command reads those it needs.
    """
    from sol_core.models.loading import layer_bits, load_language_model

    warm_up = KernelWarmUp(dtype, device, bits=layer_bits(name, data_dir), only_once=only_once)
    model = load_language_model(
        name, data_dir=data_dir, dtype=dtype, device=device, on_progress=on_progress
    )
    warm_up.wait(on_progress)
    on_card = pick_device(device).type == "cuda"
    if on_card and "spaces" not in sys.modules:  # ZeroGPU has no card here
        on_progress(COMPILING, 0.99)
        warm_up_card(model.lm)
    tune(model, data_dir, lambda: on_progress(TUNING, 0.99))
    return model


class KernelWarmUp:
    """Compiles in a thread of its own; begins at once.

    Args:
        dtype, device: as the model will be loaded. Nothing is done for a GPU, see ``warm_up_card``.
        bits: of the quantised weights of its layers, which few rows will read; None without.
        only_once: do nothing where this was done before.
    """

    def __init__(
        self,
        dtype: str = "auto",
        device: str = "auto",
        *,
        bits: int | None = None,
        only_once: bool = False,
    ) -> None:
        self._bits, self._began = bits, time.monotonic()
        self._device = pick_device(device)
        self._dtype = pick_dtype(dtype, self._device)
        name = str(self._dtype).removeprefix("torch.")
        self._kind = name if bits is None else f"{name}-{bits}"
        mark = _mark_of(self._kind)
        self._is_known = mark is not None and mark.exists()
        self._has_work = self._device.type == "cpu" and not (only_once and self._is_known)
        # No daemon: an interpreter that ends while LLVM compiles is aborted.
        self._thread = threading.Thread(target=self._work, name="kernel-warm-up")
        self._thread.start()

    def wait(self, on_progress: Callable[[str, float], None]) -> None:
        """Return when everything is compiled; tell what is waited for."""
        while self._thread.is_alive():
            spent = time.monotonic() - self._began
            message = (
                "reading kernels" if self._is_known else f"{COMPILING}, usually a minute or two"
            )
            on_progress(message, 1 - 0.25 ** (spent / USUAL_S))  # never stands still
            self._thread.join(_TELL_S)

    def _work(self) -> None:
        if self._has_work:
            with turn_to_compile(self._kind):
                warm_up_kernels(self._dtype, self._bits)


@torch.no_grad()
def warm_up_kernels(dtype: torch.dtype, bits: int | None = None) -> None:
    """Decode some steps with as many rows as there are kernels for: one text, and a batch."""
    tensors = small_tensors()
    blocks = {} if bits is None else _blocks(tensors, bits)
    lm = FrozenLM(SMALL_SPEC, arrange_weights(tensors, SMALL_SPEC, dtype, blocks=blocks))
    sites = (replace(_DEFAULT, quant_site=site) for site in get_args(QuantSite))
    for how in (Mechanisms(), *sites):
        for rows in (1, MANY_ROWS):
            _decode(lm, _rows(rows), DecodeOptions(2 * len(_ACTIONS), how, batched=True), rows)
    _decode(lm, _policy(lm), DecodeOptions(2))
    # A head of another size has another kernel where bfloat16 is multiplied in pairs.
    query, block = torch.zeros(1, 1, _CONTEXT, 16), torch.zeros(2, 1, 1, _CONTEXT, 16, dtype=dtype)
    causal_attention(query, KVBlock(*block), scale=1.0, window=None)


@torch.no_grad()
def warm_up_card(lm: FrozenLM) -> None:
    """Decode some steps of a model on a card: Triton compiles for its sizes, or reads its cache."""
    for how in (Mechanisms(), _DEFAULT):
        _decode(lm, _rows(1), DecodeOptions(2 * len(_ACTIONS), how))
    _decode(lm, _policy(lm), DecodeOptions(2, on_host=True))


def _decode(lm: FrozenLM, scheduler: BatchScheduler, options: DecodeOptions, rows: int = 1) -> None:
    cache = lm.new_cache(1, _CONTEXT)
    tokens = torch.zeros(1, _CONTEXT, dtype=torch.int64, device=lm.device)
    lm.prefill(tokens[:, 1:], cache)
    state = prefill_token(lm, tokens[:, :1], cache, options.mechanisms)
    branch = cache.branch(rows, options.max_steps)
    for _ in decode(lm, branch, [0], scheduler, lambda step: [0], options, state):
        if not threading.main_thread().is_alive():  # the program ends and waits for this
            return


def _policy(lm: FrozenLM) -> PolicyScheduler:
    """An untrained policy with one row."""
    grid, config = ActionGrid(), PolicyConfig(width=8, num_heads=1)
    layout = InputLayout.of(lm.spec, config)
    info = PolicyInfo("warm-up", "", "", grid, config, layout)
    prices = [PriceTable((0.0, 1.0), (1.0, 0.0))] * 3
    with torch.random.fork_rng(devices=()):  # initial weights are drawn from everybody's numbers
        network = build_network(layout, grid, config)
    return PolicyScheduler(Policy(info, network, prices, lm.weights.embedding.cpu()), [Budget()])


def _rows(num_rows: int) -> PlannedRows:
    """Every row takes one action after another, all rows another one; asks for the signals."""
    plans = [(3 * _ACTIONS)[row % len(_ACTIONS) :] for row in range(num_rows)]
    return PlannedRows(plans, Observe.CONCENTRATION)


def _blocks(tensors: dict[str, Tensor], bits: int) -> dict[str, GgufBlocks]:
    """Blocks of zeros for every matrix, of the kinds that steps of few rows read."""
    blocks = {}
    for name, tensor in tensors.items():
        if tensor.dim() == 2:
            kind = "Q8_0" if "embed" in name or bits == 8 else "Q4_1"
            shape = len(tensor), tensor.shape[1] // BLOCK, KINDS[kind][1]
            blocks[name] = GgufBlocks(kind, torch.zeros(shape, dtype=torch.uint8))
    return blocks
