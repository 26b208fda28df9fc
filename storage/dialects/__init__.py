"""SQLite and PostgreSQL: everything in which they differ, and nothing else."""

from storage.dialects.expressions import contains, insert_into, now_us

__all__ = ["contains", "insert_into", "now_us"]
