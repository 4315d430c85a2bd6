"""rao beside other packages for recursive agents, on one scripted endpoint: `python -m benchmarks.peers`."""
