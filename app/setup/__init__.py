"""Python packages of a checkout, by the standard library: found, installed, diagnosed."""
