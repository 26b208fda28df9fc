"""Files on disk: fetched, verified, locked, staged and renamed."""
