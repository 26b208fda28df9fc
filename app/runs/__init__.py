"""Generations and inspections that run in the background, are polled and are saved.

One queue on one model, the rows that a poll returns, and pairs of ended runs. Jobs that take
minutes are in ``app.jobs``, and a saved run's exports are in ``app.sharing``.
"""
