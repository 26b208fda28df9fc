"""Constants of fake quantisation that compiled kernels share with the definition.

Imports nothing: Numba's and Triton's functions read them while they are compiled.
"""

SCALE_FLOOR = 1e-8  # smallest scale of a row, so that a row of zeros stays one
UNTOUCHED_BITS = 16  # rows of so many bits are left as they are
