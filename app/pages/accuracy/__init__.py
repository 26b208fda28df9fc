"""The Accuracy tab: accuracy on downstream tasks, a policy against static at its spend.

The form, the result on show and the list of jobs. Scoring is in ``sol_core.tasks``, running it in
``app.jobs``.
"""
