"""Weights on their way from the trainer to what samples with them."""
