"""The Train page: choose settings, press Start, watch a policy learn, come back to it later.

The form, the estimate and the job on show. Training runs in ``app.jobs``.
"""

from app.pages.train.tab import build_tab

__all__ = ["build_tab"]
