"""Results as text for a terminal: records in, strings out."""
