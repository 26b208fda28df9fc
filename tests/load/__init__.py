"""Many browsers and many jobs at once, against a running server: ``python -m tests.load``.

``page_client`` asks as a page asks, ``visitors`` generate and check what they are given,
``job_queue`` queues jobs and checks their order, ``processes`` are what is started, ``trial``
measures.
"""

from tests.load.processes import Processes, launched
from tests.load.trial import LoadOptions, run_trial

__all__ = ["LoadOptions", "Processes", "launched", "run_trial"]
