"""The machine and the process: paths, limits, locks, environment, database, errors."""
