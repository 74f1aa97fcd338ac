"""The subnet through the bittensor SDK."""
