"""Benchmarks behind ``python launch.py bench``: measured here and now, ratios within one run."""
