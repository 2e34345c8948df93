"""Weights of others: which files hold them, what their tensors are called, and that each is one the model has.

Importing this package loads no torch, so that a run can look at a folder when it is created.
"""
