"""The Learn page: six short lessons, each with a live experiment, and the glossary.

Layout and calls only. Texts and experiments are in ``app.lessons``.
"""
