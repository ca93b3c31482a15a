"""Datasets through LLaMA-Factory's pipeline: where they are, how they are read, tokenized and scored, what is wrong."""
