"""The machine and the process: paths, limits, locks, environment, database, errors.

Small modules that any other package may import. Nothing here knows a page, a run
or a policy.
"""
