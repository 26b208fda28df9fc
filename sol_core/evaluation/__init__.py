"""Evaluation of policies at matched spend: baselines, intervals, probes, results.

What policies and baselines are compared with is in ``sol_core.comparing``; accuracy on tasks is in
``sol_core.accuracy``. ``config`` imports no torch, as the page reads configurations.
"""
