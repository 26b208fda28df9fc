"""The engine as a library: load, generate, score, inspect, train and evaluate, one call each.

Every function wraps a part of the engine with the command line's defaults. ``import sol_core`` is
cheap; the first call imports torch. Progress is a bar on stderr unless ``on_progress`` is given.
"""
