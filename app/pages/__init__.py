"""The tabs, one package each; every package has ``build_tab(services)``.

A page has a form, handlers that take one JSON object, and a layout. Scripts and style sheets
are in ``app.web``, and what a page is about is in packages that know no page.
"""
