"""The lessons' texts, their live experiments, measured once and shared, and the rooms of classes.

What is measured is in ``sol_core.experiments``. The page is ``app.pages.learn``.
"""
