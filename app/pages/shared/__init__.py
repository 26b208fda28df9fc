"""Handlers and views that several pages use: runs, jobs, corpora, files."""
