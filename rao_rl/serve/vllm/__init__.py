"""Stock vLLM as a child process."""
