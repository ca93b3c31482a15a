"""Real certificates, good ones and others, and real servers on loopback that show them."""

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat

from fcit_plugin.deployment.certificates import host_of, new_ca, new_server, now
from fcit_plugin.deployment.keys import new_key, write_private_key

#: A time at which no certificate of today holds, and one that is over.
LATER, LONG_AGO = datetime.timedelta(days=30), datetime.timedelta(days=-5000)


class Authority:
    """A CA of a test's own.

    Args:
        folder: Where its certificate is, as ``ca.crt``.
        name: What it is called.
        shift: By how much its certificate begins later than now.
    """

    def __init__(self, folder: Path, name: str = "test", shift: datetime.timedelta = datetime.timedelta(0)) -> None:
        self.folder, self.key = folder, new_key()
        self.certificate = new_ca(self.key, name, now() + shift)
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "ca.crt"
        self.file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def server(
        self, *hosts: str, shift: datetime.timedelta = datetime.timedelta(0), key: ec.EllipticCurvePrivateKey | None = None
    ) -> tuple[Path, Path]:
        """A server's certificate for these hosts alone, and its key; both are files."""
        key = key or new_key()
        stem = self.folder / f"server-{len(list(self.folder.iterdir()))}"
        made = new_server(key.public_key(), list(map(host_of, hosts)), self.certificate, self.key, now() + shift)
        certificate, private = stem.with_suffix(".crt"), stem.with_suffix(".key")
        certificate.write_bytes(made.public_bytes(Encoding.PEM))
        write_private_key(private, key, PrivateFormat.PKCS8)
        return certificate, private


@contextlib.contextmanager
def listening(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """Within the block a server on 127.0.0.1 hands each connection over; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    handle(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@contextlib.contextmanager
def tls_server(certificate: Path, key: Path, protocol: str | None = "h2") -> Iterator[int]:
    """Within the block a server shows a certificate; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if protocol:
        context.set_alpn_protocols([protocol])

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1)

    with listening(handle) as port:
        yield port
