"""The lessons' texts and their live experiments, measured once and shared.

What is measured is in ``sol_core.lens.single_steps``. The page is ``app.pages.learn``.
"""
