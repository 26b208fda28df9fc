"""The library of policies: names, files in and out, tags, uses, measured figures.

A policy's network and its folder format are in ``sol_core.policy``. The page is
``app.pages.policies``, and training is a job.
"""
