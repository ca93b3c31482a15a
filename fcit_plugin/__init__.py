"""Federated continual instruction tuning for LLaMA-Factory."""

__version__ = "0.2.0"
