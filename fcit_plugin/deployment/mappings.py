"""Small YAML files that people edit: keys and values of text, no key twice."""

from pathlib import Path
from typing import Any

import yaml
from typing_extensions import override

from ..errors import FcitError, one_line
from ..files import read_text


class _Loader(yaml.BaseLoader):  # type: ignore[misc]  # PyYAML has no types
    """Takes each word for text, so that a site may be called `no` or `1`, and no key twice."""

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands there twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


def read_mapping(path: Path, remedy: str) -> dict[Any, Any]:
    """What a YAML file holds: a mapping whose words are all text; an empty file has none.

    Args:
        path: The file.
        remedy: What the sentence says to do.

    Raises:
        FcitError: It cannot be read, is no YAML or no mapping, or has a key twice.
    """
    text = read_text(path, remedy)
    try:
        found = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise FcitError(f"{path} is not valid YAML ({one_line(error)[:300]}); {remedy}.") from error
    if found in (None, ""):
        return {}
    if not isinstance(found, dict):
        raise FcitError(f"{path} does not hold names and values; {remedy}.")
    return found


def yaml_text(path: Path) -> str:
    """A path as YAML's text."""
    text = str(path)
    plain = all(letter.isalnum() or letter in "/._-" for letter in text)
    return text if plain else "'" + text.replace("'", "''") + "'"
