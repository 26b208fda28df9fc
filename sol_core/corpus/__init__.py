"""Text to train and evaluate on: documents, split into train and held-out, cut into blocks.

Documents in, blocks of tokens out; files of visitors are kept by the app. ``documents`` alone needs
no package: the command line checks a corpus's name before pyarrow is there.
"""
