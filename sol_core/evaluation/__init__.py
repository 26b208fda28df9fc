"""Evaluates policies at matched spend: contenders, baselines, intervals, results.

Accuracy on tasks is in ``sol_core.accuracy``. ``config`` imports no torch, because the page reads
configurations.
"""
