"""The measurements of ``bench``.

Ratios come from one run on one machine. Accuracy is measured in ``sol_core.evaluation`` and
``sol_core.tasks``.
"""
