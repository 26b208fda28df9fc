"""The Policies page: the library, what each policy measured, and its ways in and out.

Layout and calls only. The library, its files and its tags are in ``app.policies``.
"""
