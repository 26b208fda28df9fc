"""Parts of every page: assets, the component, calls into Python, services."""
