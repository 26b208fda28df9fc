"""The decode loop, schedulers of one row and of many, and the cost of a step.

Generation, scoring, evaluation and training share this one loop. Trained policies are in
``sol_core.policy``, sampled text is in ``sol_core.generation``.
"""
