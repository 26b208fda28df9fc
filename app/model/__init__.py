"""The loaded language model: loading it, and computing with it here or on ZeroGPU."""
