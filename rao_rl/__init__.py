"""Training recursive agents: environments, rollouts, evaluation, and the trainers."""
