"""Batches, losses, generation, isolated workers, executors. Knows nothing of samples or scores."""
