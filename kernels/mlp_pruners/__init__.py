"""Ways to choose the MLP's channels that are dropped: a file for each way, and a row in the table.

Importing this brings in no torch: forms and command lines list the names.
"""

from __future__ import annotations

from kernels.mlp_pruners.both_sides import BOTH
from kernels.mlp_pruners.input_side import INPUT
from kernels.mlp_pruners.pruner import MlpPruner, Split

__all__ = ["MLP_PRUNERS", "MlpPruner", "Split"]

MLP_PRUNERS = {
    pruner.name: pruner
    for pruner in (
        INPUT,
        BOTH,
    )
}
