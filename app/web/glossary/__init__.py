"""The words of this project, each explained in a sentence or two, wherever they appear.

The table is ``terms.json``. Where a word is shown is decided by the pages' scripts.
"""
