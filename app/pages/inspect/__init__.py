"""The Inspect page: any text, token by token, under several schedules.

Its form, and its calls beyond those of Explore. Scored tokens come from ``app.runs``.
"""
