"""The Explore page: a prompt, a budget, and every token coloured by what was spent on it.

Its form is what Inspect and Compare build on. Runs, and what a poll returns, are in ``app.runs``.
"""
