"""Texts to schedule by hand, and attempts at them, scored and kept.

Scores are computed by ``sol_core.evaluation.arena`` and rows are kept by ``storage``. The page
is ``app.pages.compare``.
"""
