"""One budget for all axes: a share of the dense bytes, spent where measured damage is least.

Schedulers of single rows are built here. Damage is measured in ``sol_core/comparing/measuring.py``.
"""
