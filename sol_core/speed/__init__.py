"""The measurements of ``bench``."""
