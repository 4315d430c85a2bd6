"""Imitation: cross-entropy on what a good agent wrote."""
