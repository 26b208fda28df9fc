"""SQLite and PostgreSQL: everything in which they differ, and nothing else."""
