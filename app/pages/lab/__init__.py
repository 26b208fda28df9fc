"""The Lab: training, evaluation, accuracy and policies as four views of one room.

Forms are made of the configurations' dataclasses; jobs run in ``app.jobs``, and policies have a
package of their own.
"""
