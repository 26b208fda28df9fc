"""Results as files, and files back into results; ``docs/formats.md`` describes them."""
