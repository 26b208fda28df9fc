"""Trains policies: damage labels, a warm start on them, GRPO on rollouts, checkpoints."""
