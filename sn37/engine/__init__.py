"""Computation only: models from folders, losses and greedy continuations of token rows, in batches and one by one.

Knows nothing of samples, methods, scores or competitions.
"""
