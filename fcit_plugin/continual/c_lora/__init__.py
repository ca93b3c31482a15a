"""C-LoRA: a LoRA for each stage, which is held back where those of earlier stages have changed the weights."""
