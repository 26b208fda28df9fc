"""An evaluation's result as figures and a table for the pages, and as files.

Plain data from the stored JSON; colours and drawing are the page's. Results are computed in
``sol_core.evaluation``, and accuracy on tasks is shown by ``app.pages.lab``.
"""
