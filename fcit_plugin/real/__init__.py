"""Real models and real images for federated continual instruction tuning, all from package registries.

Nothing here needs a model hub. ``smollm2_vl`` joins a small instruct model and a vision transformer, both shipped
inside PyPI packages, to one LLaVA folder; ``data`` writes three image-question data sets; ``minilm`` finds a sentence
encoder.
Each function imports its optional packages when called and names the missing one in a single sentence.
"""
