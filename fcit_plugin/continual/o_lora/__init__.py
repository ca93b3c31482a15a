"""O-LoRA: a LoRA for each stage, orthogonal to those of earlier stages."""
