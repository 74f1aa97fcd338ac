"""Rows of hub datasets pinned in time, and signed wandb runs."""
