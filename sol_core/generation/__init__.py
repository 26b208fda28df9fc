"""Text generation under a compute schedule: prompt in, frozen events out.

Sampling, side rows, visible text, and compiling kernels ahead. Given tokens are scored in
``sol_core.evaluation``.
"""
