"""Fetches, verifies, locks, stages and renames files."""
