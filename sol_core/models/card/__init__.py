"""The self-test of a CUDA card."""
