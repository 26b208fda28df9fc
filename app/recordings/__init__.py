"""One prompt answered under budgets from all to little, recorded once to be looked at by a dial.

The shipped recording is what Explore opens with.
"""
