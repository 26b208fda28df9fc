"""Parts shared by several CPU kernels: threads, small Numba functions, explicit vectors.

Operations are in the folders beside this one; each has its Numba code in ``cpu.py``. Nothing
here knows Triton.
"""
