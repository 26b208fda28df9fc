"""Explains a GPU's errors, and frees its memory."""

from __future__ import annotations

import gc
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

from sol_core.errors import CardLostError, CardMemoryError, SolError

KEEPERS: WeakSet[Any] = WeakSet()  # objects whose ``clear`` frees memory
P = ParamSpec("P")
ResultT = TypeVar("ResultT")
_CUDA = re.compile(r"(?:CUDA error|Triton Error \[CUDA\]): (.*)")  # torch's and Triton's messages
_ASKED = re.compile(r"Tried to allocate ([\d.]+ [KMGT]iB)")
_LOST = (
    "The GPU reported an error that this process cannot recover from ({reason}): end it and start "
    "it again. Saved runs and checkpoints are kept."
)


def card_error(error: BaseException) -> SolError | None:
    """Return a GPU's error with an explanation; None for other errors."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    # Older torch releases and Triton raise a plain RuntimeError with these words.
    said = _CUDA.match(str(error)) if isinstance(error, RuntimeError) else None
    if isinstance(error, torch.OutOfMemoryError) or (said and "out of memory" in said[1]):
        asked = _ASKED.search(str(error))
        return CardMemoryError(
            f"The GPU's memory is full: {asked.group(1) if asked else 'more'} was asked for and "
            f"{_free()} was free. Ask for fewer new tokens, a shorter text or fewer schedules at "
            "once, or end other programs that use the GPU."
        )
    if said or isinstance(error, getattr(torch, "AcceleratorError", ())):
        reason = said[1] if said else str(error).partition("\n")[0]
        return CardLostError(_LOST.format(reason=reason))
    return None


def retry_out_of_memory(work: Callable[P, ResultT], *given: P.args, **how: P.kwargs) -> ResultT:
    """Call ``work``; if a GPU runs out of memory, free memory and call it once more."""
    try:
        return work(*given, **how)
    except RuntimeError as error:
        if not isinstance(card_error(error), CardMemoryError):
            raise
        give_memory_back(error)
    return work(*given, **how)


def give_memory_back(error: BaseException | None = None) -> None:
    """Release the GPU memory that this process caches but does not use."""
    if error is not None:
        traceback.clear_frames(error.__traceback__)
    for keeper in list(KEEPERS):
        keeper.clear()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def _free() -> str:
    import torch

    try:
        free, total = torch.cuda.mem_get_info()
    except (RuntimeError, AssertionError):  # a build without CUDA, or a lost GPU
        return "less"
    return f"{free / 1024**3:.2f} of {total / 1024**3:.1f} GiB"
