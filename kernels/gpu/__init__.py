"""What several Triton kernels share: when they run, how they are launched, helpers.

Operations are in the folders beside this one; each has its Triton code in ``triton_kernel.py``.
Triton is imported on first use only.
"""
