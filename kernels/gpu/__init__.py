"""Parts shared by several Triton kernels: conditions of use, launches, helpers.

Operations are in the folders beside this one; each has its Triton code in ``triton_kernel.py``.
Triton is imported on first use only.
"""
