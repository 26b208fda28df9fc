"""Tasks: questions that measure what a policy does to accuracy, at the spend of its baselines."""
