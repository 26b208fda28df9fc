"""Tables measured on a model: page floors, damage of levels, directions of its head.

The program ships the default model's. ``sol_core/evaluation/measure_tables.py`` measures those of
another model once.
"""
