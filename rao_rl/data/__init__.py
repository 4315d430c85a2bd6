"""Recorded trees as training data: folders, groups, token rows. No torch."""
