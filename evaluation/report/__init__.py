"""What is left of an evaluation: tables in the terminal, files, pictures, TensorBoard curves.

`comparison.py` holds what they all show. matplotlib and tensorboard are imported by the functions
that draw and log, so that a command's start does not wait for them.
"""
