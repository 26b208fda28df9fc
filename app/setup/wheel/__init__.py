"""Build backend of the wheel, which puts this project's packages under one name.

It is for building alone: the sdist carries it, the wheel leaves it out. Nothing here is imported by
the program.
"""
