"""The Evaluate page: policies against baselines at matched spend, with the paper's figures.

Figures and files of a result are in ``app.results``. The evaluation itself is a job.
"""
