"""Files on disk: fetched, verified, locked, staged and renamed.

The default model and the evaluation data are named here, and where everything lies. What a file
means is decided by the packages that read it.
"""
