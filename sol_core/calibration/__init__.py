"""Tables that belong to the default model: floors of attention by need, directions of its head.

Looking things up in them is where they are used, in ``sol_core/models``; they are measured in
``sol_core/comparing/measuring.py``.
"""
