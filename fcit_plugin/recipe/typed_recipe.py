"""A recipe as it was typed: the text of its file, and what stood behind it on the command line. No secret goes along."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from ..arguments import FcitArguments
from ..errors import FcitError
from ..files import read_text

#: What stands in place of a secret.
HIDDEN = "(not shown)"
_RECIPES = (".yaml", ".yml")
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
    if len(argv) == 1:
        return text
    typed = "\n".join(f"#   {_override(word)}" for word in argv[1:])
    return f"{text.rstrip()}\n\n# on the command line:\n{typed}\n"


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
