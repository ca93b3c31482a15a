"""A recipe as it was typed: the text of its file, and what stood behind it on the command line. No secret goes along."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from ..arguments import FcitArguments
from ..errors import FcitError
from ..files import read_text
from ..state.names import TYPED_YAML
from .read import read_recipe, read_yaml

#: What stands in place of a secret.
HIDDEN = "(not shown)"
_RECIPES = (".yaml", ".yml")
#: Above, and before each of, the words that followed a recipe on the command line.
_BEHIND, _WORD = "\n# on the command line:\n", "#   "
_SECRET = re.compile(r"(?:^|[_.])(?:token|secret|password|passphrase|api_key|webhook_url)$")
#: Keys of ours whose value is one.
_OURS = frozenset(item.name for item in fields(FcitArguments.joined()) if not item.repr)
_IN_A_COMMENT = re.compile(r"(#.*?\b(\w+)\b[\"']?\s*[:=]\s*)([^#\n]*[^#\s])")


class TypedKeys(dict[str, Any]):
    """A recipe's keys, which LLaMA-Factory hands on as they are from where it reads them to where it parses them.

    Attributes:
        typed: The recipe's text, from :func:`as_typed`.
    """

    typed: str | None = None


def as_typed(argv: Sequence[str]) -> str | None:
    """The text of the recipe that a command line names, with what follows it there as a comment.

    Args:
        argv: The command line: the recipe comes first, overrides follow.

    Returns:
        The text, in which the values of secrets (tokens of hubs, the seed of noise) are hidden. A file that a key names, such
        as the server's private key, is named and not read. None without a recipe file, or of one that is no text.
    """
    if not argv or not argv[0].endswith(_RECIPES):
        return None
    try:
        text = without_secrets(read_text(Path(argv[0])))
    except (FcitError, yaml.YAMLError, RecursionError):
        return None  # whoever reads its keys says what is wrong
    if Path(argv[0]).name == TYPED_YAML:  # what stands there followed it in another run
        text, _ = _apart(text)
    if len(argv) == 1:
        return text
    typed = "\n".join(f"{_WORD}{_override(word)}" for word in argv[1:])
    return f"{text.rstrip()}\n{_BEHIND}{typed}\n"


def keys_as_typed(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The keys of a recipe's file; those of a text from :func:`as_typed` with what had followed them on the command line.

    Args:
        path: The file.

    Returns:
        The keys, and the words that had followed.

    Raises:
        FcitError: It cannot be read, or holds no keys; the sentence names it.
    """
    words = _apart(read_text(path, "check its name"))[1] if path.name == TYPED_YAML else []

    def read() -> Any:
        keys = read_yaml(path)
        return OmegaConf.to_container(OmegaConf.merge(keys, OmegaConf.from_dotlist(words))) if words else keys

    keys = read_recipe(read, [str(path)])
    if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys):
        raise FcitError(f"The recipe {path} has to be keys and values.")
    return keys, words


def check_typed(argv: Sequence[str], keys: Mapping[str, Any]) -> list[str]:
    """Look whether a recipe is a text from :func:`as_typed`, as a run has left it.

    Args:
        argv: The command line: the recipe comes first, overrides follow.
        keys: The keys of both.

    Returns:
        What had followed the recipe on the command line then, and does not now.

    Raises:
        FcitError: A secret of it is missing, or would be lost as the run writes the file again; the sentence names it.
    """
    for key, value in keys.items():
        if value == HIDDEN:
            raise FcitError(f"`{key}` is {HIDDEN} in {argv[0]}, which holds no secrets; put {key}=VALUE behind it.")
    path = Path(argv[0]) if argv else Path()
    if path.name != TYPED_YAML:
        return []
    text, words = _apart(read_text(path))
    own = path.resolve() == (Path(str(keys.get("output_dir", ""))) / TYPED_YAML).resolve()
    if own and without_secrets(text) != text:
        raise FcitError(
            f"The recipe {path} has a secret in it, and the run writes that very file again without any; take a copy of it "
            "under another name."
        )
    return [word for word in words if word not in argv]


def _apart(text: str) -> tuple[str, list[str]]:
    """The text of a recipe, and the words that had followed it on the command line."""
    before, behind, after = text.rpartition(_BEHIND)
    return (f"{before}\n", [line.removeprefix(_WORD) for line in after.splitlines()]) if behind else (text, [])


def is_secret(key: str) -> bool:
    """Whether a key's value is a secret, by its name or because its declaration says so."""
    return key in _OURS or _SECRET.search(key.lower().replace("-", "_")) is not None


def without_secrets(text: str) -> str:
    """A recipe's text with its secrets hidden, wherever their values stand, also in comments.

    Raises:
        yaml.YAMLError: It is not YAML.
    """
    last = len(text)
    for start, end in sorted(_spans(yaml.compose(text, Loader=yaml.SafeLoader), set()), key=lambda span: span[1], reverse=True):
        if end > last:  # inside of another one, or the same
            continue
        bare = len(text[start:end].rstrip())  # the end of a text of several lines is that of its last line
        text, last = f"{text[:start]}{HIDDEN}{text[start + bare :]}", start
    return _IN_A_COMMENT.sub(lambda found: found[1] + HIDDEN if is_secret(found[2]) else found[0], text)


def _override(word: str) -> str:
    key, equals, _ = word.partition("=")
    one_line = " ".join(word.split())
    return f"{key}={HIDDEN}" if equals and is_secret(key.lstrip("-")) else one_line


def _spans(node: Any, seen: set[int]) -> Iterator[tuple[int, int]]:
    """Where the values of secrets begin and end; what an alias stands for is where its anchor is."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if is_secret(str(key.value)):
                yield value.start_mark.index, value.end_mark.index
            else:
                yield from _spans(key, seen)
                yield from _spans(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            yield from _spans(part, seen)
