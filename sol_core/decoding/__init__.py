"""The decode loop, schedulers of one row and of many, and what a step costs.

The loop is the only one, for generation, scoring, evaluation and training. Trained policies are
in ``sol_core.policy``, and sampled text is in ``sol_core.generation``.
"""
