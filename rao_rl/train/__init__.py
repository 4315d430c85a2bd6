"""The RAO objective: from trees to a better checkpoint."""
