"""Subspace adapters: LoRA pairs on PEFT, their activation, and their form on disk."""
