"""Saved generations and inspections as JSON documents, as CSV and as HTML pages.

The database's record of a run goes out and comes back whole. Looks through the lens are in
``app.sharing.lens``.
"""
