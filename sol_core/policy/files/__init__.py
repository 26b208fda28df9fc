"""Policies on disk, in zip files and on the Hub, and their lookup by name."""
