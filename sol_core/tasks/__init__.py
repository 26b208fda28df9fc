"""Tasks: questions that measure what a policy does to accuracy, at the spend of its baselines.

What policies and baselines are compared with is in ``sol_core.comparing``. ``config`` imports no
torch, as the page reads configurations.
"""
