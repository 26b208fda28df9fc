"""Results as text for a terminal: a generation, an inspection, an evaluation.

Records in, strings out, with colours where the terminal has them. JSON and files are made
elsewhere: ``app.sharing``.
"""
