"""What runs inside the locked process: one agent's cells. The host's side is the package above."""
