"""One budget for all axes: a share of the dense bytes, spent where measured damage is least.

Schedules of single rows are built here.
"""
