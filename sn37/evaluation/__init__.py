"""Evaluate models on samples: the program inside a worker, and what runs and judges it outside."""
