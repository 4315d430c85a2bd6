"""What `rao serve` runs: vLLM as a child process (vllm.py), and the servers of rao's own (apps.py)."""
