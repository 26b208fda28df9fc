"""The counterfactual lens on a run's token: asked for by a run's id, returned as records.

The arithmetic is in ``sol_core.lens``.
"""
