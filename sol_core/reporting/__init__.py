"""Presents results: verdicts in one sentence, tables and figures for notebooks."""
