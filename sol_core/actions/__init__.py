"""Actions of decode steps, their axes, and the grid of levels.

An action is the paper's triple (arXiv:2605.10875, section 3): how much of the KV cache attention
may read, how many MLP channels are computed, how many bits the MLP activations get. Schedules live
in ``sol_core/decoding/schedules.py``; nothing here touches a tensor.
"""

from kernels.mlp_pruners import MLP_PRUNERS, MlpPruner
from kernels.page_scorers import PAGE_SCORERS, PageScorer
from sol_core.actions.action import (
    AXES,
    AXIS_FIELDS,
    DENSE,
    MAX_BITS,
    SHORT_AXES,
    Action,
    Axis,
    Budget,
    Spend,
    ceil_fraction,
)
from sol_core.actions.budget_text import parse_budget, parse_share_budget
from sol_core.actions.grid import (
    DEFAULT_GRID,
    GRIDS,
    OWN_GRID,
    PAPER,
    ActionGrid,
    Mechanisms,
    QuantSite,
    grid_name,
    grid_named,
    grid_record,
)
from sol_core.actions.records import Record, record_of

__all__ = [
    "AXES", "AXIS_FIELDS", "DEFAULT_GRID", "DENSE", "GRIDS", "MAX_BITS", "MLP_PRUNERS", "OWN_GRID",
    "PAGE_SCORERS", "PAPER", "SHORT_AXES", "Action", "ActionGrid", "Axis", "Budget", "Mechanisms",
    "MlpPruner", "PageScorer", "QuantSite", "Record", "Spend", "ceil_fraction", "grid_name",
    "grid_named", "grid_record", "parse_budget", "parse_share_budget", "record_of",
]  # fmt: skip
