"""Replay: clients keep some records of earlier tasks."""
