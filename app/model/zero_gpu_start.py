"""Start of a Space on ZeroGPU: its card is tested and its kernels are compiled before the page.

A decorated call made while a Space starts takes no visitor's quota and may last 25 minutes
(huggingface.co/blog/zerogpu-aoti). Its process is forked, so an error of CUDA ends with it. What
Triton compiles there stays in its cache on disk, where later calls find it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from app.model.loader import ModelLoader

logger = logging.getLogger(__name__)
_CARD = "ZeroGPU"
START_CALL_S = 600  # of one call; a Space that has not started after 30 minutes is stopped


class ZeroGpuStart:
    """Prepares the card of a ZeroGPU Space; ``gpu`` is ``spaces.GPU``."""

    def __init__(self, loader: ModelLoader, gpu: Callable[..., Any]) -> None:
        self._loader = loader
        self._test_there = gpu(self._test_here, duration=START_CALL_S)
        self._compile_there = gpu(self._compile_here, duration=START_CALL_S)

    def run(self) -> bool:
        """Test and compile; return whether later calls will find compiled kernels.

        Operations that fail the test run on their PyTorch references from then on. Call this in the
        main thread, after the model was loaded.
        """
        model = self._loader.loaded()
        if model is None or not model.device_name.startswith("cuda"):
            return True  # nothing will be compiled
        from sol_core.models.card.self_test import CardReport, missing_for_triton, run_checks

        try:
            missing = missing_for_triton()
            tested = None if missing else run_checks(_CARD, self._tested)
            report = tested or CardReport(_CARD, missing=missing)
            report.apply()
            self._loader.note(report.sentences())
            if tested is not None:
                self._compile_there()
        except Exception as error:  # ``spaces`` is foreign code: its errors have no common root
            reason = getattr(error, "message", error)
            logger.warning("no GPU while the Space started (%s): first runs take longer", reason)
            return False
        return True

    def _tested(self, names: Sequence[str]) -> tuple[str, int]:
        """See ``RunChild``. Raises: whatever ``spaces`` raises where it gives no GPU."""
        lines: list[str] = []
        try:
            for line in self._test_there(list(names)):
                lines.append(line)  # those before an error count
        except Exception:
            if not lines:
                raise
            return "\n".join(lines), -1
        return "\n".join(lines), 0

    def _test_here(self, names: Sequence[str]) -> Iterator[str]:
        from sol_core.models.card.checks import check_lines
        from sol_core.models.devices import DTYPES

        model = self._loader.loaded()
        yield from check_lines(names, model.lm.device, DTYPES[model.dtype_name])

    def _compile_here(self) -> None:
        from sol_core.generation.warm_up import warm_up_card

        warm_up_card(self._loader.loaded().lm)
