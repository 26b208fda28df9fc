"""The loaded language model: loading it, and computing with it here or on ZeroGPU.

Everything that needs the model asks for it here, and waits its turn. The engine's own loading
is in ``sol_core.models``.
"""
