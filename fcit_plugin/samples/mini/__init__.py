"""FCIT-mini: twelve small drawn data sets and a small pre-trained LLaVA, all offline."""
