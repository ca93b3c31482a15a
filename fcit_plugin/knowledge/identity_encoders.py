"""The identity encoders that are there by name, beside any text encoder of Hugging Face; no torch."""

from collections.abc import Mapping

from ..parts import Part

_HERE = "fcit_plugin.knowledge.encoders"
#: The base model's own input embeddings.
EMBEDDING = "embedding"
#: The base model itself, asked for the meaning of an instruction.
PROMPT = "prompt"
#: The sentence encoder of an optional package.
MINILM = "minilm"
#: Stands in the place of an encoder where the task was known (``fcit_bound: oracle``).
ORACLE = "oracle"

ENCODERS: Mapping[str, Part] = {
    EMBEDDING: Part(f"{_HERE}:embedding_encoder"),
    PROMPT: Part(f"{_HERE}:prompt_encoder"),
    MINILM: Part(f"{_HERE}:minilm_encoder"),
    ORACLE: Part(f"{_HERE}:oracle_encoder"),
}
