"""Scores any text token by token under several schedules at once; generates nothing.

``sol_core.lens`` tries all levels at one token. ``records`` holds requests and results, without
torch.
"""
