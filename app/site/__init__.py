"""The web site as a whole: the frame of tabs, the server that shows it, and its gate."""
