"""Background jobs in the database: the queue, its records, its series.

A claim is one transaction, and progress is rows. What a job does is in ``app.jobs``.
"""

__all__: list[str] = []
