"""Background jobs: a worker process takes them from the database and runs the engine.

Claims, heartbeats, progress, stopping and resuming are here. Forms and lists of jobs are in
``app.pages``, and rows of the database in ``storage.jobs``.

``updates`` says what a job function is given and yields, ``engines`` are the real ones,
``runner`` runs one job, ``worker`` takes one after another, ``supervisor`` keeps a worker
alive beside the page.
"""
