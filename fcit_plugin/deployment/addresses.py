"""Hosts and ports, as recipes and commands name them, and ports that are free."""

import contextlib
import os
import re
import socket

from ..errors import FcitError

#: How this machine is called by itself.
_ITSELF = ("127.0.0.1", "localhost", "::1")
#: Which hosts gRPC reaches past a proxy of the environment, by its own variable, and where that is not set by everybody's.
_PAST_PROXIES, _PAST_PROXIES_OF_ALL = "no_grpc_proxy", "no_proxy"


def past_proxies(*addresses: str) -> None:
    """Have gRPC, in this process and those it starts, reach this machine itself past a proxy (``https_proxy``).

    gRPC asks a proxy for 127.0.0.1, too: what processes of one machine tell each other would leave it, or never arrive.

    Args:
        addresses: Further addresses of this machine, each a host and its port.
    """
    given = os.environ.get(_PAST_PROXIES, os.environ.get(_PAST_PROXIES_OF_ALL, ""))
    hosts = [host.strip() for host in given.split(",") if host.strip()]
    own = (*_ITSELF, *(split_address(address)[0] for address in addresses))
    os.environ[_PAST_PROXIES] = ",".join(dict.fromkeys([*hosts, *own]))


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
