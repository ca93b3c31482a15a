"""All ways in which somebody can spoil a file before we read it, by the kind of the file."""

from pathlib import Path

from hostile_files import ANY_FILE, Spoil
from hostile_json import JSON_FILE, YAML_FILE
from hostile_tensors import TENSOR_FILE


def ways_of(path: Path) -> dict[str, Spoil]:
    """What can be done to a file, by name."""
    if path.suffix in (".json", ".jsonl"):
        return ANY_FILE | JSON_FILE
    if path.suffix == ".yaml":  # what we write as YAML for these tests is JSON, too
        return ANY_FILE | YAML_FILE
    return ANY_FILE | (TENSOR_FILE if path.suffix == ".safetensors" else {})
