"""Small measurements on the loaded model, each about a second: what the lessons show.

Results are plain records. The lessons' texts and their cache are in ``app.lessons``.
"""
