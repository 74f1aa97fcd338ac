"""The record of an epoch, and folds over many of them."""
