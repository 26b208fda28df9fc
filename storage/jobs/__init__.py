"""Background jobs in the database: the queue, its records, its series."""
