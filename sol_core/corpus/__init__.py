"""Text to train and evaluate on: documents, split into train and held-out, cut into blocks."""
