"""Scores, the accuracy matrix over stages, pictures and the report of a run. No torch."""
