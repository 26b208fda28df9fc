"""The counterfactual lens: one token under every level of every axis.

Of a generated run or of a fixed text. Whole texts under a few schedules are in
``sol_core.inspection``.
"""
