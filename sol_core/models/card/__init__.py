"""A CUDA card: what it can run, its self-test, and its errors in words."""
