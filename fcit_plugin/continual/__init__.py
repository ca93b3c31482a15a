"""Continual methods: what is done against forgetting, each a small plugin with its own memory and no trainer."""
