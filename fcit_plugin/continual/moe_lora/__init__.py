"""MoELoRA: one LoRA as a mixture of experts."""
