"""Training: damage labels, a warm start on them, GRPO on rollouts, checkpoints.

A trained policy's own code is in ``sol_core.policy``, the texts in ``sol_core.corpus``. ``config``
imports no torch, as the page reads configurations.
"""
