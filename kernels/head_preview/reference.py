"""The rule that says which outputs of a previewed head are computed exactly, by PyTorch."""

from __future__ import annotations

from torch import Tensor

MARGIN = 8.0  # nats below the best preview: less than 1/3,000 as probable
RESCORED = 512  # outputs within it, about the mean on text; for counting bytes


def previewed_logits(preview: Tensor, exact: Tensor) -> Tensor:
    """Exact logits where the preview comes near its best one, and the preview elsewhere.

    Args:
        preview, exact: [R, V] float32.
    """
    likely = preview >= preview.amax(-1, keepdim=True) - MARGIN
    return exact.where(likely, preview)
