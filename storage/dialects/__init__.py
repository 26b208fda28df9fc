"""SQLite and PostgreSQL: everything in which they differ, and nothing else.

The rest of the package asks a backend (``SqliteBackend``, ``PostgresBackend``: the same methods)
or uses ``expressions``; no other module knows which database it talks to.
"""

from storage.dialects.expressions import contains, insert_into, now_us

__all__ = ["contains", "insert_into", "now_us"]
