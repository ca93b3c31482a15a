"""Who takes part: the list that a recipe's ``fcit_sites`` is, or names.

A mapping in YAML from the site's name to the file of its public key, relative to the list's own folder::

    north: keys/north.pub
    south: {key: keys/south.pub, removed: true}
    west: keys/west.pub

A site's number is its place in the list, from 0. So the list only grows, at its end: a site that leaves is marked as
``removed`` and keeps its place, and a key that is renewed takes the place of the old one. Names have letters, digits,
``-`` and ``_``, and no two differ in small and capital letters alone; no two sites have one key, removed ones included.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import FcitError
from ..files import write_text
from ..schema import PathName, checked
from .keys import public_line, read_public_key
from .mappings import read_mapping, yaml_text

#: What is written above the list.
_HEAD = """\
# The sites of this federation; a recipe names this file in `fcit_sites`. A site's number is its place from 0 on, so lines
# stay where they are: `fcit-cli deploy enroll` and `fcit-cli deploy remove` write them.
"""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_FORM = "write `name: keys/name.pub`, or `name: {key: keys/name.pub, removed: true}`"


class ListedSite(NamedTuple):
    """A site in the list.

    Attributes:
        name: Its name.
        key: The file of its public key.
        removed: Whether it has left, and is never asked again.
    """

    name: str
    key: Path
    removed: bool


def check_name(name: str, where: str = "") -> str:
    """A site's name, as it is.

    Args:
        name: The name.
        where: The list that it stands in, for the sentence.

    Raises:
        FcitError: It is too long, or has more than letters, digits, - and _.
    """
    if not _NAME.fullmatch(name):
        raise FcitError(
            f"{f'{where}: ' if where else ''}{name[:100]!r} cannot be the name of a site; take up to 64 letters from a to z, "
            "digits, - and _, and no - or _ first."
        )
    return name


def read_sites(listed: str | Path | Mapping[str, Any], base_folder: Path) -> list[ListedSite]:
    """The sites of a federation, in the order of their numbers, each with a key of its own.

    Args:
        listed: The mapping, or the path of the YAML file that holds it.
        base_folder: What a relative path is relative to: of the file, or of the keys in a mapping. Paths in a file are
            relative to the file's folder.

    Raises:
        FcitError: The file cannot be read, a name or a key's file is wrong, a site that takes part has not been enrolled, or
            two sites have one name or one key.
    """
    sites = list_sites(listed, base_folder)
    if all(site.removed for site in sites):
        where = _place(listed, base_folder)
        raise FcitError(f"{where} has no site that takes part; type `fcit-cli deploy enroll NAME FILE` for each.")
    check_keys(sites, _place(listed, base_folder))
    return sites


def list_sites(listed: str | Path | Mapping[str, Any], base_folder: Path) -> list[ListedSite]:
    """The same without a look at the keys, which need not be there yet."""
    where = _place(listed, base_folder)
    if isinstance(listed, Mapping):
        return _sites(listed, base_folder, where)
    path = Path(where)
    return _sites(read_mapping(path, _FORM), path.parent, str(path))


def _place(listed: str | Path | Mapping[str, Any], base_folder: Path) -> str:
    """Where a list stands: its file, or the recipe's key."""
    return "`fcit_sites`" if isinstance(listed, Mapping) else str(base_folder / os.path.expanduser(listed))


def check_keys(sites: Sequence[ListedSite], where: str) -> None:
    """Check that each site that takes part has a key, and no two sites have the same one.

    Args:
        sites: The sites.
        where: Where they are listed, for the sentence.

    Raises:
        FcitError: The sentence names site and file.
    """
    owners: dict[bytes, ListedSite] = {}
    for site in sites:
        if not site.key.exists():
            if site.removed:
                continue  # nothing is ever sent to it
            raise FcitError(
                f"{where} names site {site.name}, whose key {site.key} is not there; type `fcit-cli deploy enroll {site.name} "
                f"FILE` with the site.pub that it hands over, or `fcit-cli deploy remove {site.name}`."
            )
        line = public_line(read_public_key(site.key, site.name))
        other = owners.setdefault(line, site)
        if other is not site:
            raise FcitError(
                f"The sites {other.name} and {site.name} have one key ({other.key}, {site.key}); let one make a key of its own."
            )


def write_sites(path: Path, sites: Sequence[ListedSite]) -> None:
    """Write the list; keys below its folder are named relative to it."""
    write_text(path, _HEAD + "".join(_line(site, path.parent) for site in sites))


def _line(site: ListedSite, folder: Path) -> str:
    key = site.key.relative_to(folder) if site.key.is_relative_to(folder) else site.key
    shown = yaml_text(key)
    return f"{site.name}: {f'{{key: {shown}, removed: true}}' if site.removed else shown}\n"


def _sites(listed: Mapping[Any, Any], folder: Path, where: str) -> list[ListedSite]:
    sites: list[ListedSite] = []
    names: dict[str, str] = {}
    for name, value in listed.items():
        if not isinstance(name, str):
            raise FcitError(f"{where} has {str(name)[:100]!r} for a site's name, which is no text in YAML; put it in quotes.")
        check_name(name, where)
        other = names.setdefault(name.casefold(), name)
        if other != name:
            raise FcitError(f"{where} has the sites {other} and {name}, which differ in capital letters alone; rename one.")
        entry = value if isinstance(value, Mapping) else {"key": value}
        key, removed = entry.get("key"), str(entry.get("removed", "false")).lower()
        if not isinstance(key, str) or not key or not set(entry) <= {"key", "removed"}:
            raise FcitError(f"{where} names no public key for site {name}; {_FORM}.")
        key = os.path.expanduser(checked(PathName, key, f"{where}: {name}", _FORM))
        if removed not in ("true", "false"):
            raise FcitError(f"{where} says `removed: {removed[:100]}` of site {name}; it is true or false.")
        sites.append(ListedSite(name, folder / key, removed == "true"))
    return sites
