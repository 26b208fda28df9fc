"""Any text, token by token, under several schedules at once; nothing is generated.

One token under all levels is in ``sol_core.lens``.

Here are what is asked for and what comes back, plain and free of torch. The engine is
``sol_core.inspection.engine.inspect_text``.
"""

from sol_core.inspection.records import (
    INSPECTION_VERSION,
    MAX_SCHEDULES,
    DifficultyReport,
    InspectedRow,
    InspectedToken,
    InspectionConfig,
    InspectionEnd,
    InspectionEvent,
    InspectionStart,
    KindSpend,
    RowReport,
    RowTotals,
    TokenPlace,
    inspection_json,
)

__all__ = [
    "INSPECTION_VERSION",
    "MAX_SCHEDULES",
    "DifficultyReport",
    "InspectedRow",
    "InspectedToken",
    "InspectionConfig",
    "InspectionEnd",
    "InspectionEvent",
    "InspectionStart",
    "KindSpend",
    "RowReport",
    "RowTotals",
    "TokenPlace",
    "inspection_json",
]
