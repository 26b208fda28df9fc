"""JSON and CSV as pages, the terminal and files want them: plain, finite, checked."""
