"""One compressed decode step: its plan, its parts, its CUDA graph, its clock.

A plan turns actions into masks and numbers; the decoder runs it. Loops over steps are in
``sol_core.decoding``.
"""
