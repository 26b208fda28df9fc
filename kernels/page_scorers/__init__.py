"""Ways to score pages, by which they are chosen: a file for each way, and a row in the table.

Importing this brings in no torch: forms and command lines list the names.
"""

from __future__ import annotations

from kernels.page_scorers.int4 import INT4
from kernels.page_scorers.page_scorer import PageScorer, PagesToScore, TextScores
from kernels.page_scorers.quest import QUEST

__all__ = ["PAGE_SCORERS", "PageScorer", "PagesToScore", "TextScores"]

PAGE_SCORERS = {
    scorer.name: scorer
    for scorer in (
        QUEST,
        INT4,
    )
}
