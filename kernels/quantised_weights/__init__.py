"""Weights that a GGUF file holds in blocks of 4 or 8 bits, multiplied as they are.

No number is rounded: products are fp32 sums of the file's own values. ``layout.py`` says how they
lie in memory, ``cpu.py`` multiplies a few rows with them.
"""

from kernels.quantised_weights.layout import BLOCK, KINDS, GgufBlocks, pack_blocks, unpack_blocks

__all__ = ["BLOCK", "KINDS", "GgufBlocks", "pack_blocks", "unpack_blocks"]
