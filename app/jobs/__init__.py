"""Background jobs: a worker process takes them from the database and runs the engine.

``updates`` says what a job function is given and yields, ``engines`` are the real ones, ``runner``
runs one job, ``worker`` one after another, ``supervisor`` keeps a worker alive beside the page.
"""
