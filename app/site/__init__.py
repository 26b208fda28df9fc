"""The web site as a whole: the frame of tabs and the server that shows it.

Each tab is built by its own package in ``app.pages``. What the server guards against is here;
what a handler allows is in ``app.web`` and in the pages.
"""
