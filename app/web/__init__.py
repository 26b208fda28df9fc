"""The page's own files: modules in ``js/``, style sheets in ``css/``; serving and exporting them.

What a page asks Python, and Python's answers, are not here.
"""
