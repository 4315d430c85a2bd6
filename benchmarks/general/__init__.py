"""General tasks with checkable answers, for any model at any endpoint: `python -m benchmarks.general`."""
