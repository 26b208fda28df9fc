"""Tables measured of a model: floors of attention by need, directions of its head, damage.

The default model's ship with the program; another one's are measured once, in
``sol_core/evaluation/measure_tables.py``.
"""
