"""Model families: maps Hugging Face configs and checkpoints to the decoder."""
