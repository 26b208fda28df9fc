"""Measures a policy's accuracy on downstream tasks, at equal spend with static."""
