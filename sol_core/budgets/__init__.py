"""One budget for all axes: a share of the dense bytes, spent where measured damage is least.

Schedulers of single rows are built here. Damage is measured in ``sol_core/comparing/measuring.py``.
"""

from __future__ import annotations

from sol_core.budgets.building import build_scheduler
from sol_core.budgets.mixes import DamageTable, Mix, MixTable, damage_table, mix_table, mixes_of

__all__ = [
    "DamageTable",
    "Mix",
    "MixTable",
    "build_scheduler",
    "damage_table",
    "mix_table",
    "mixes_of",
]
