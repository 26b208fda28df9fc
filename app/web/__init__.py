"""Parts of every page: assets, the component, calls into Python, services.

Scripts, style sheets, colours and the glossary are here, for all pages and for exported ones.
No page and no handler is here.
"""
