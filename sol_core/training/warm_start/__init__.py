"""The first phase of training: damage labels from random schedules, and a fit.

A label is the cost of one step that alone was compressed. Rollouts and GRPO are in
``sol_core.training``.
"""
