"""A policy on disk, as a zip and on the Hub, and how a name leads to it.

Whatever is read is checked, and nothing is unpickled. The network that the weights belong to
is in ``sol_core.policy``.
"""
