"""Training and evaluation text: documents, their split, blocks of tokens."""
