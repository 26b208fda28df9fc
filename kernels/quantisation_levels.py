"""Constants of fake quantisation that compiled kernels share with the definition.

Imports nothing: Numba's and Triton's functions read them while they are compiled.
"""

SCALE_FLOOR = 1e-8  # smallest scale of a row, so that a row of zeros stays one
UNTOUCHED_BITS = 16  # rows of so many bits are left as they are
# Channels that share a scale, as in ggml's Q8_0 and the MX formats: those of a weight's block, so
# that a block's products are of integers, times one scale.
SCALE_BLOCK = 32
