"""The History page: runs that have ended, newest first.

It lists, opens and deletes. What a run is, and what is kept of it, is in ``app.runs``.
"""
