"""An open lens as a document, as rows and as a page, and back.

The numbers come from the document or from the loaded model. Runs themselves are in
``app.sharing.runs``.
"""
