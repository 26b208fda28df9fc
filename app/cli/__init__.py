"""The command line: parser, options that commands share, and text for a terminal.

What a command does to models, runs and jobs is in the packages below; here it is asked for and
printed. Nothing else imports this package.
"""
