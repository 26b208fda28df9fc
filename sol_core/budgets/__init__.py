"""Budgets as a share of the dense bytes, spent on the axes where measured damage is least.

This package also builds the schedules of single rows.
"""
