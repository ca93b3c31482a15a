"""FCIT-mini: twelve small drawn datasets and a small pre-trained LLaVA, all offline."""
