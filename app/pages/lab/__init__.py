"""The Lab: training, evaluation, accuracy and policies as four views of one room.

Each view has its form and its handlers in a package of its own.
"""
