"""Families of models: what their Hugging Face configs and checkpoints mean to the one decoder."""
