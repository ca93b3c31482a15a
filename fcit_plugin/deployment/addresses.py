"""Hosts and ports, as recipes and commands name them, and ports that are free."""

import contextlib
import ipaddress
import os
import re
import socket

from ..errors import FcitError, one_line

#: How this machine is called by itself.
_ITSELF = ("127.0.0.1", "localhost", "::1")
#: Which hosts gRPC reaches past a proxy of the environment, by its own variable, and where that is not set by everybody's.
_PAST_PROXIES, _PAST_PROXIES_OF_ALL = "no_grpc_proxy", "no_proxy"
#: A part of a name, and how IP addresses are meant that a certificate cannot have.
_LABEL, _ZONE = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)"), "%"
#: What the older rules of names in other scripts turn into something else: ß into ss, which is another machine.
_TURNED = "\u00df\u1e9e\u03c2\u200c\u200d"

Host = str | ipaddress.IPv4Address | ipaddress.IPv6Address


def host_of(text: str) -> Host:
    """A machine as certificates know it: an IP address, or a DNS name in small letters and in ASCII.

    Raises:
        FcitError: It is neither, has a port, or is one that programs take for different machines.
    """
    try:
        address = ipaddress.ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    except ValueError:
        pass
    else:
        if _ZONE in str(address):
            raise FcitError(f"{text!r} is an address of one cable alone, which no certificate can name; take another address.")
        return address
    if any(letter in _TURNED for letter in text):
        raise FcitError(f"{text!r} is taken for different machines by different programs; write it in ASCII (xn--...).")
    try:
        name = text.rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        name = ""
    if not 0 < len(name) < 254 or not all(_LABEL.fullmatch(label) for label in name.split(".")) or _all_digits(name):
        raise FcitError(
            f"{text!r} is neither a name such as fl.example.org nor an IP address; give that alone, without port or https://."
        )
    return name


def _all_digits(name: str) -> bool:
    return name.rpartition(".")[2].isdecimal()


def as_dialed(address: str, key: str = "the address") -> str:
    """Host and port as gRPC takes them: it knows no name in another script than ASCII, and an IPv6 address in one form alone.

    Args:
        address: Both.
        key: Where it stands, for the sentence.

    Raises:
        FcitError: It is not of this form.
    """
    host, port = split_address(address, key)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
    """Host, in the form of :func:`host_of`, and port of ``host:port``, an IPv6 address in brackets.

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
    try:
        return str(host_of(bare)), int(port)
    except FcitError as error:
        raise FcitError(f"{address!r} ({key}) cannot be connected to: {one_line(error)}") from error


def free_ports(count: int) -> list[int]:
    """Different ports of this machine that nothing listens at, at the moment."""
    with contextlib.ExitStack() as held:
        return [held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]
