"""Schedules side by side on the same tokens: rollouts, baselines, statistics.

Evaluation, tasks, inspection and lens are built on this; reports are in ``sol_core.evaluation``.
"""
