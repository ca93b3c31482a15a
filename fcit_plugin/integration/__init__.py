"""The seams to LLaMA-Factory. Nothing outside this folder imports its internals."""
