"""The first phase of training: damage labels from random schedules, and a fit.

A label says what one step cost when it alone was compressed. Rollouts and GRPO are in
``sol_core.training``.
"""
