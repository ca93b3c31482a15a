"""Readers of what an operator and its sites hand to each other: keys, certificates, lists and kits."""

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from reader import Reader

from fcit_plugin.deployment import site
from fcit_plugin.deployment.certificates import new_ca, now
from fcit_plugin.deployment.keys import new_key, public_line, read_private_key, write_private_key
from fcit_plugin.deployment.operator import address_of
from fcit_plugin.deployment.sites import list_sites, read_sites

_SITES = ("north", "south")


@cache
def _public(name: str) -> bytes:
    return public_line(new_key().public_key())


def _list(folder: Path) -> None:
    (folder / "sites.yaml").write_text(json.dumps({"north": "keys/north.pub", "south": {"key": "keys/south.pub"}}))
    (folder / "keys").mkdir()
    for name in _SITES:
        (folder / "keys" / f"{name}.pub").write_bytes(_public(name))


def _list_read(folder: Path) -> Iterable[str]:
    """The list alone: where the keys are is the operator's to say."""
    return () if list_sites("sites.yaml", folder) else ["sites.yaml has nobody"]


def _keys_read(folder: Path) -> Iterable[str]:
    read_sites("sites.yaml", folder)
    return ()


def _kit(folder: Path) -> None:
    (folder / "kit").mkdir()
    ca = new_ca(new_key(), "test", now())
    (folder / "kit/ca.crt").write_bytes(ca.public_bytes(Encoding.PEM))
    (folder / "kit/server.txt").write_text("fl.example.org:9092\n")
    (folder / "kit/site.yaml").write_text(json.dumps({"stage": "fcit_site", "fcit_superlink": "fl.example.org:9092"}))


def _kit_read(folder: Path) -> Iterator[str]:
    address_of(folder / "kit")
    site.init(folder / "site", folder / "kit")
    return iter(())


def _private(folder: Path) -> None:
    write_private_key(folder / "site.key", new_key())


def _private_read(folder: Path) -> Iterable[str]:
    read_private_key(folder / "site.key")
    return ()


READERS = [
    Reader(
        "a list of sites",
        _list,
        _list_read,
        spoil=("sites.yaml",),
        own=("*",),
        free=("*:north", "*:south", "*:south.key"),  # each word may be the name of a key's file
        takes=(("sites.yaml", "a date that is none"), ("sites.yaml", "exponent")),
        whole=("*",),
    ),
    Reader("sites' public keys", _list, _keys_read, spoil=("keys/*",), own=("*",)),
    Reader("a site's kit", _kit, _kit_read, own=("*",), free=("kit/site.yaml:fcit_superlink",)),
    Reader("a site's private key", _private, _private_read, own=("*",)),
]
