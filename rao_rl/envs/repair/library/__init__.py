"""The functions that repositories are made of: small, pure and total, each with a docstring that says exactly what it does."""
