"""Hosts and ports, as recipes and commands name them, and ports that are free."""

import contextlib
import re
import socket

from ..errors import FcitError


def split_address(address: str, key: str = "the address") -> tuple[str, int]:
    """Host and port of ``host:port``, an IPv6 address in brackets.

    Args:
        address: Both.
        key: Where it stands, for the sentence.

    Raises:
        FcitError: It is not of this form.
    """
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    good = bare and (":" not in bare or bare != host) and not re.search(r"[\s/@]", bare)
    good = good and port.isascii() and port.isdecimal()
    if not good or not 0 < int(port) < 65536:
        raise FcitError(f"{address!r} ({key}) is not a host and its port; write it as fl.example.org:9092.")
    return bare, int(port)


def free_ports(count: int) -> list[int]:
    """Different ports of this machine that nothing listens at, at the moment."""
    with contextlib.ExitStack() as held:
        return [held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]
