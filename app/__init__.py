"""The web app and the command line: the only place where engine and storage meet."""
