"""Schedules side by side on the same tokens: rollouts, baselines, statistics.

Evaluation, tasks, inspection and lens are built on this. What an evaluation reports is in
``sol_core.evaluation``.
"""
