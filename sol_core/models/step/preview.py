"""Computes a model's head in two passes, if it has a preview form."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kernels.cpu import as_array
from kernels.head_preview import (
    HeadPreview,
    make_preview,
    preview_bytes,
    preview_input,
    previewed_logits,
)
from kernels.quantised_weights import GgufBlocks, unpack_blocks
from sol_core.actions import Action
from sol_core.models.huge_pages import HugePages
from sol_core.models.spec import ModelSpec
from sol_core.models.step.output import StepOutput


class PreviewedHead:
    """A head's preview form, made at its first use."""

    def __init__(self, blocks: GgufBlocks, directions: Tensor, dtype: torch.dtype) -> None:
        self._blocks, self._directions, self._dtype = blocks, directions, dtype

    @staticmethod
    def make(
        spec: ModelSpec, blocks: GgufBlocks | None, directions: Tensor | None, dtype: torch.dtype
    ) -> PreviewedHead | None:
        """Make a head's preview; None if the head is always read whole."""
        raw = spec.logit_scale is None and spec.logit_cap is None  # the margin assumes raw logits
        if blocks is None or directions is None or not raw:
            return None
        fits = preview_bytes(blocks, directions.shape[1]) is not None
        return PreviewedHead(blocks, directions, dtype) if fits else None

    @property
    def bytes_read(self) -> tuple[float, float] | None:
        return preview_bytes(self._blocks, self._directions.shape[1])

    @cached_property
    def _form(self) -> HeadPreview:
        made = make_preview(self._blocks, self._directions)
        return made._replace(packed=HugePages(made.packed.nbytes).copy(made.packed))

    @cached_property
    def arrays(self) -> list[Any]:
        """Return the arrays for the few-row kernels, see ``decode_layer/head.py``."""
        _, *parts = self._form
        return [as_array(part) for part in parts]

    @cached_property
    def _weights(self) -> Tensor:
        """Return the weights of the preview, [V, C + D]."""
        return unpack_blocks(self._form.blocks).to(self._dtype)

    def logits(self, output: StepOutput, actions: Sequence[Action]) -> Tensor:
        """Return logits [R, V] of many rows, previewed in rows that drop something."""
        previewed = torch.tensor([not action.is_dense for action in actions])
        extended = preview_input(output.hidden, self._directions)
        coarse = (extended.to(self._dtype) @ self._weights.t()).float()
        return previewed_logits(coarse, output.logits).where(previewed[:, None], output.logits)
