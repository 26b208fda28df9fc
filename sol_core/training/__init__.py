"""Training: damage labels, a warm start on them, GRPO on rollouts, checkpoints."""
