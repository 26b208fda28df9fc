"""Background jobs in the database: the queue, its records, its series."""

__all__: list[str] = []
