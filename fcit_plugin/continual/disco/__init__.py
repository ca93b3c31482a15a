"""DISCO: dynamic knowledge organization, a subspace for each kind of instruction (arXiv 2503.12897)."""
