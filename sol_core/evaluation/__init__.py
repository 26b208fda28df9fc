"""Evaluation of policies at matched spend: contenders, baselines, intervals, probes, results.

Accuracy on tasks is in ``sol_core.accuracy``. ``config`` imports no torch, as the page reads
configurations.
"""
