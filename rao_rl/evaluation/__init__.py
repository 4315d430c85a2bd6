"""How well a policy does: summaries, logs, curves, plots. No torch."""
