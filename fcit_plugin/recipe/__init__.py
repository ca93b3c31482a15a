"""LLaMA-Factory's keys and ours together: read, filled in, checked against each other."""
