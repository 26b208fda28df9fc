"""Parts that several Triton kernels share: conditions of use, launches and helpers."""
