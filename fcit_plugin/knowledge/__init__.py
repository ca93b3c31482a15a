"""Identity tokens of instructions and the organization of subspaces by them (DKO)."""
