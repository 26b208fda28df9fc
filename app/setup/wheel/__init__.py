"""Build backend of the wheel. The sdist carries it, the wheel leaves it out."""
