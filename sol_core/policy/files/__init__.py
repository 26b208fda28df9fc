"""A policy on disk, as a zip and on the Hub, and how a name leads to it."""
