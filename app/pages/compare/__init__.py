"""The Compare page: two runs side by side.

Rows come from ``app.runs``. Exported pairs are made in
``app.sharing.comparison``.
"""
