"""Logits in two passes: a preview of all from 4-bit weights, then the likely ones exactly.

Most of a vocabulary cannot be the next token, and for those a coarse logit will do. SVD-softmax
(Shim et al., NeurIPS 2017) previews them by the leading singular vectors of the head; here the
preview reads the whole head at 4 bits, and what that rounds away is kept exact along the few
directions in which final hidden states are large.
"""

from kernels.head_preview.layout import PREVIEW_BITS, HeadPreview, make_preview, preview_bytes
from kernels.head_preview.reference import (
    MARGIN,
    RESCORED,
    STATE_BITS,
    preview_input,
    previewed_logits,
)

__all__ = [
    "MARGIN",
    "PREVIEW_BITS",
    "RESCORED",
    "STATE_BITS",
    "HeadPreview",
    "make_preview",
    "preview_bytes",
    "preview_input",
    "previewed_logits",
]
