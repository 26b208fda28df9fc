"""Background jobs: a worker process takes them from the database and runs the engine.

``runner`` runs one job by a function, ``engines`` are the real functions, ``worker`` runs one job
after another, ``supervisor`` keeps a worker alive beside the page.
"""
