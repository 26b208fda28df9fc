"""The Lab: training, evaluation, accuracy and policies as four views of one room."""
