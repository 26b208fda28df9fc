"""The noise floor of compressed steps, measured on the default model (``launch.py bench noise``).

Two computations of one schedule that differ in the last bit choose other pages and channels and
round to other levels here and there; later layers and steps amplify it.
"""

from __future__ import annotations

from sol_core.actions import Action

# Change of NLL that 95 % of tokens stay within, nats, at 0.3 of the attention and 0.7 of the MLP;
# from so many bits on. Of float32 and bfloat16 the larger, with a scale per token; a scale per 32
# channels halves the one of 5 bits (0.99).
NLL_FLOOR = {5: 1.84, 6: 1.18, 7: 0.71, 16: 0.65}
# Of tokens whose KL is at most 0.01 in one computation, 95 % stay below 0.03 in another from this
# many bits on; below that, some reach 0.23, with a scale per 32 channels 0.033.
FEWEST_BITS = 6


def noise_floor(action: Action) -> float:
    """How far a token's NLL may lie from another computation of the same step, nats; 0 if dense."""
    if action.is_dense:
        return 0.0
    return NLL_FLOOR[max((bits for bits in NLL_FLOOR if bits <= action.bit_width), default=5)]
