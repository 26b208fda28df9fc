"""The command line: parser, options that commands share, text for a terminal."""
