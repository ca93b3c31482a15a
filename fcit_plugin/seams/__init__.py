"""Where LLaMA-Factory is patched, and nothing else: one file for each of its modules that is wrapped, named as it is."""
