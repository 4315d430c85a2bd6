"""Scores for recorded runs: by a function of the application, or by a judge. No torch."""
