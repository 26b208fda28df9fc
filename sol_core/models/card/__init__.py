"""A CUDA card: what it can run, its self-test, and its errors in words.

No model is loaded and no kernel defined here. What fails on a card is done by PyTorch's
references instead, with a sentence that says so.
"""
