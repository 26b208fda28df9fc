"""The rooms and the views of the Lab, one package each; every one has its ``PAGE``.

A page has a form and handlers that take one JSON object. Scripts and style sheets
are in ``app.web``, and what a page is about is in packages that know no page.
"""
