"""An evaluation's result as figures and a table for the pages, and as files."""
