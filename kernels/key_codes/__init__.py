"""4-bit copies of keys, and the attention mass of pages estimated from them: the definition.

A page's fraction of attention is the sum of its tokens' softmax weights. Read from copies of the
keys in 4 bits it costs D/2 + 4 bytes a token and KV head, about what Quest's two bounds a page
of 8 cost in bf16, and is close to exact: pages chosen by it lose a tenth of what Quest's bounds
lose (docs/results.md). Related: Twilight (arXiv:2502.02770), Double Sparsity (arXiv:2408.07092).

Eight tokens are stored together, an octet, so that one integer product of four channels serves
eight tokens: byte [d, t, c] of an octet has channel 8 d + c of token t in its low half and
channel 8 d + 4 + c in its high half.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.cpu import as_array
from kernels.cpu.threads import cpu_kernel, torch_with_numba

OCTET = 8  # tokens stored together; the head size is a multiple of it, too
HIGHEST_CODE = 15
HIGHEST_QUERY = 127
LEAST_SCALE = 2.0**-100


def encode_keys(keys: Tensor) -> tuple[Tensor, Tensor]:
    """4-bit codes of keys, each token and head with its own minimum and scale.

    Args:
        keys: [..., S, D], any float dtype; S and D are multiples of 8.
    Returns: codes [..., S / 8, D / 8, 8, 4] uint8, and [..., S / 8, 2, 8] bf16, the tokens'
        scales, then their minima.
    """
    values = keys.float().unflatten(-2, (-1, OCTET))  # [..., O, 8, D]
    # Codes are found for the two numbers as they are stored.
    minimum = values.amin(-1).bfloat16()
    scale = ((values.amax(-1) - minimum.float()) / HIGHEST_CODE).bfloat16()
    steps = (values - minimum.float()[..., None]) / scale.float().clamp(min=LEAST_SCALE)[..., None]
    codes = steps.round().clamp(0, HIGHEST_CODE).to(torch.uint8)
    codes = codes.unflatten(-1, (-1, 2, 4)).movedim(-4, -2)  # [..., O, D / 8, 2, 8, 4]
    low, high = codes.unbind(-3)
    return low | (high << 4), torch.stack((scale, minimum), -2)


def encode_tokens(keys: Tensor, codes: Tensor, scales: Tensor, start: int, end: int) -> None:
    """Write the codes of some tokens of a cache, and of others in their octets.

    Args:
        keys: [R, H, S, D] fp32 or bf16.
        codes, scales: of ⌈S / 8⌉ octets, as ``encode_keys`` returns them; changed.
        start, end: the tokens.
    """
    kernel = None
    if keys.device.type == "cpu" and keys.dtype in (torch.float32, torch.bfloat16):
        kernel = cpu_kernel(f"{__name__}.cpu", "encode_range")
    if kernel is not None:
        arrays = keys, codes.flatten(3), scales.flatten(3)
        with torch_with_numba():
            kernel(*map(as_array, arrays), start, end)
        return
    first = start // OCTET
    some = keys[:, :, first * OCTET : -(-end // OCTET) * OCTET]
    some = torch.nn.functional.pad(some, (0, 0, 0, -some.shape[2] % OCTET))
    for kept, made in zip((codes, scales), encode_keys(some), strict=True):
        kept[:, :, first : first + made.shape[2]] = made


def round_queries(query: Tensor) -> tuple[Tensor, Tensor]:
    """Queries in whole numbers, so that their products with codes are exact in any order.

    Args:
        query: [..., D] fp32.
    Returns: [..., D] fp32 whole numbers of −127 to 127, and what one of them stands for [..., 1].
    """
    unit = (query.abs().amax(-1, keepdim=True) / HIGHEST_QUERY).clamp(min=LEAST_SCALE)
    return (query / unit).round().clamp(-HIGHEST_QUERY, HIGHEST_QUERY), unit


def estimated_scores(query: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    """Dot products of rounded queries with the keys that the codes stand for.

    Args:
        query: [..., Q, D] fp32, scaled.
        codes, scales: of O octets, as ``encode_keys`` returns them.
    Returns: [..., Q, 8 O] fp32.
    """
    whole, unit = round_queries(query)
    halves = torch.stack((codes & HIGHEST_CODE, codes >> 4), -3)  # [..., O, D / 8, 2, 8, 4]
    steps = halves.movedim(-2, -4).flatten(-3).flatten(-3, -2).float()  # [..., 8 O, D]
    scale, minimum = (part.flatten(-2) for part in scales.float().unbind(-2))
    # Sums of whole numbers below 2^24 (D ≤ 8,000): exact in fp32, whatever their order.
    products = whole @ steps.mT
    offsets = whole.sum(-1, keepdim=True) * minimum[..., None, :]
    return (products * scale[..., None, :] + offsets) * unit


def page_log_mass(scores: Tensor, valid: Tensor | None, page_size: int) -> Tensor:
    """Logarithm of each page's unnormalised attention mass.

    Args:
        scores: [R, H, S] fp32; the last page may be short.
        valid: [R, S] bool, tokens that the row may see; None means all.
        page_size: tokens per page.
    Returns: [R, H, P] fp32, −inf for a page without a valid token.
    """
    if valid is not None:
        scores = scores.masked_fill(~valid[:, None, :], -torch.inf)
    scores = torch.nn.functional.pad(scores, (0, -scores.shape[-1] % page_size), value=-torch.inf)
    return torch.logsumexp(scores.unflatten(-1, (-1, page_size)), -1)
