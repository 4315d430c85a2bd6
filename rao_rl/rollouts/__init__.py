"""Attempts at the tasks of environments: one, many, recorded, and in batches for training. No torch."""
