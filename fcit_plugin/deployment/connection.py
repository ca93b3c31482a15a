"""Whether a server is there, and is the one that it should be: a real TLS connection, and a sentence on what is wrong."""

import datetime
import errno
import socket
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ..errors import FcitError, one_line
from .addresses import split_address
from .certificates import check_certificate, hosts_of, issuer_of, now, parsed

#: OpenSSL's numbers of what is wrong with a certificate (X509_V_ERR_*, openssl/x509_vfy.h).
_NOT_YET, _EXPIRED, _OTHER_HOST, _OTHER_IP = 9, 10, 62, 64
#: What gRPC speaks (RFC 9113).
_PROTOCOL = "h2"


def check_free(address: str) -> None:
    """Check that a server can be started at an address of this machine.

    Raises:
        FcitError: The port is in use or not to be had, or the address is not of this machine.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was closed a moment ago may be taken
        try:
            trial.bind((host, port))
        except OSError as error:
            raise FcitError(f"{address} cannot be served: {_why_not_free(error)}.") from error


def _why_not_free(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program has the port; end it (`ss -ltnp` names it), or take another port"
    if error.errno == errno.EACCES:
        return "ports below 1024 are the administrator's; take a higher one"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return "that is no address of this machine; take 0.0.0.0 or one that `ip address` names"
    return one_line(error)


def check_connection(address: str, ca_file: Path, timeout: float = 10.0) -> datetime.datetime:
    """Connect to a server with TLS as gRPC does, and end the connection.

    Args:
        address: Host and port.
        ca_file: The certificate of the federation's CA.
        timeout: Seconds for each step.

    Returns:
        Until when the server's certificate holds.

    Raises:
        FcitError: The CA's file is none or has expired, nothing is there, or it is not the federation's server; the sentence
            says what of it.
    """
    host, port = split_address(address)
    context = ssl.create_default_context(cadata=check_certificate(ca_file).public_bytes(Encoding.PEM).decode())
    context.set_alpn_protocols([_PROTOCOL])
    with _connected(address, host, port, timeout) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=host) as secured:
                protocol, shown = secured.selected_alpn_protocol(), secured.getpeercert(binary_form=True)
        except ssl.SSLCertVerificationError as error:
            raise FcitError(_why_not_trusted(address, host, port, ca_file, error, timeout)) from error
        except (OSError, ValueError) as error:  # a ValueError: the host is no name that a certificate could have
            raise FcitError(f"What listens at {address} does not speak TLS ({_words(error)}); {_PORT}.") from error
    if protocol != _PROTOCOL or shown is None:
        raise FcitError(f"What listens at {address} speaks TLS, but is no Flower SuperLink; {_PORT}.")
    return x509.load_der_x509_certificate(shown).not_valid_after_utc


_PORT = "check the port, and that no proxy stands in between"


def _connected(address: str, host: str, port: int, timeout: float) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout)
    except (socket.gaierror, UnicodeError) as error:
        raise FcitError(f"No machine is called {host} ({_words(error)}); check the name in {address}.") from error
    except ConnectionRefusedError as error:
        raise FcitError(f"Nothing listens at {address}; start superlink.sh there, or check the port.") from error
    except TimeoutError as error:
        raise FcitError(
            f"{address} does not answer within {timeout:g} s; check the address, and that no firewall holds outgoing "
            "connections to this port back."
        ) from error
    except OSError as error:
        raise FcitError(f"{address} cannot be reached ({_words(error)}); check the address and the network.") from error


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error)


def _why_not_trusted(
    address: str, host: str, port: int, ca_file: Path, error: ssl.SSLCertVerificationError, timeout: float
) -> str:
    """The sentence on a certificate that was refused, with what the certificate itself says."""
    shown = _shown_certificate(host, port, timeout)
    if error.verify_code == _EXPIRED:
        when = f" on {shown.not_valid_after_utc:%Y-%m-%d}" if shown else ""
        return (
            f"The certificate of the server at {address} has expired{when} (this machine's clock says {now():%Y-%m-%d}); "
            "let the operator type `fcit-cli deploy renew` and start superlink.sh again."
        )
    if error.verify_code == _NOT_YET:
        when = f" from {shown.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on" if shown else " later"
        return (
            f"The certificate of the server at {address} holds{when}, and this machine's clock says {now():%Y-%m-%d %H:%M}; "
            "set the clock right."
        )
    if error.verify_code in (_OTHER_HOST, _OTHER_IP):
        names = f"for {', '.join(map(str, hosts_of(shown)))}" if shown and hosts_of(shown) else "for another machine"
        return (
            f"The certificate of the server at {address} is {names}, not for {host}; connect to one of its names, or let the "
            f"operator type `fcit-cli deploy renew --host NAME` with all names."
        )
    by = f"by {issuer_of(shown)}, " if shown else ""
    return (
        f"The certificate of the server at {address} is {by}not by the CA in {ca_file} ({error.verify_message}); take the "
        "operator's ca.crt of today, and check that no proxy opens the connection."
    )


def _shown_certificate(host: str, port: int, timeout: float) -> x509.Certificate | None:
    """The certificate that a server shows, None where it cannot be had a second time."""
    try:
        return parsed(ssl.get_server_certificate((host, port), timeout=timeout).encode())
    except (OSError, ValueError):
        return None
