"""Grids of runs: what ``fcit-cli compare`` runs, and the document that it writes."""
