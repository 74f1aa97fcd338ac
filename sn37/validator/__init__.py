"""Epoch, contenders, records, the wandb mirror."""
