"""JSON and CSV as pages, the terminal and files want them: plain, finite, checked.

What goes out is small and safe to open; what comes in is held to the dataclasses that it claims
to be. No page, no run and no database is known here.
"""
