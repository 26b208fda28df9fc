"""Handlers and views that several pages use: runs, jobs, corpora, files.

Nothing here belongs to a single tab and nothing here is laid out. Calls from the browser come
in through ``app.web.calls``.
"""
