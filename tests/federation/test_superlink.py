"""A real SuperLink with TLS and two SuperNodes, each the child of a site: what we rely on in Flower's inner parts."""

import datetime
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sites import Journal, site_app
from test_site_grid import APP, UNDISTURBED, numbers, requests

from fcit_plugin.deployment.texts import QUIET
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.reply_cache import ReplyCache
from fcit_plugin.federation.site_executor import SuperNode, serve, supernode_command
from fcit_plugin.federation.site_grid import SiteGrid
from fcit_plugin.federation.superlink import SuperLink, read_site

NAMES = ("north", "south")
PEM, OPENSSH = serialization.Encoding.PEM, serialization.Encoding.OpenSSH
BIN = Path(sys.executable).parent


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def certificate(folder):
    """A certificate for 127.0.0.1 that is its own CA."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA384())
    )
    (folder / "ca.crt").write_bytes(made.public_bytes(PEM))
    private(folder / "server.key", key, serialization.PrivateFormat.PKCS8)


def private(path, key, form=serialization.PrivateFormat.OpenSSH):
    path.write_bytes(key.private_bytes(PEM, form, serialization.NoEncryption()))
    path.chmod(0o600)


def start_superlink(folder, fleet, control, appio):
    command = [BIN / "flower-superlink", "--enable-supernode-auth", "--isolation", "process"]
    command += [
        "--ssl-ca-certfile",
        folder / "ca.crt",
        "--ssl-certfile",
        folder / "ca.crt",
        "--ssl-keyfile",
        folder / "server.key",
    ]
    for flag, port in (("fleet", fleet), ("control", control), ("serverappio", appio)):
        command += [f"--{flag}-api-address", f"127.0.0.1:{port}"]
    env = {**os.environ, **QUIET, "FLWR_HOME": str(folder / "flwr")}
    log = (folder / "superlink.log").open("ab")
    return subprocess.Popen(command, stdout=log, stderr=log, env=env)


@pytest.mark.slow
def test_two_sites_over_tls_answer_as_in_process_and_a_superlink_that_is_killed_costs_no_training(tmp_path):
    certificate(tmp_path)
    fleet, control, appio, *own = free_ports(5)
    trained, over, threads, sites = [], threading.Event(), [], []

    def app(message, context):
        trained.append(message.metadata.dst_node_id)
        return APP(message, context)

    for name, port in zip(NAMES, own, strict=True):
        key = ec.generate_private_key(ec.SECP384R1())
        private(tmp_path / name, key)
        form = serialization.PublicFormat.OpenSSH
        (tmp_path / f"{name}.pub").write_bytes(key.public_key().public_bytes(OPENSSH, form))
        sites.append(read_site(name, tmp_path / f"{name}.pub"))
        folder, address = tmp_path / f"kept-{name}", f"127.0.0.1:{port}"
        command = supernode_command(f"127.0.0.1:{fleet}", tmp_path / "ca.crt", tmp_path / name, address)

        answers = site_app(app, folder)

        def site(answers=answers, key=key, command=command, log=tmp_path / f"{name}.log", address=address):
            with SuperNode(command, log, pause=1.0) as supernode:
                serve(answers, key, supernode, address, ended=over.is_set)

        threads.append(threading.Thread(target=site))
    superlink = start_superlink(tmp_path, fleet, control, appio)
    try:
        for thread in threads:
            thread.start()
        with SuperLink(f"127.0.0.1:{control}", f"127.0.0.1:{appio}", (tmp_path / "ca.crt").read_bytes()) as link:
            for attempt in ("first", "again"):
                cache = ReplyCache(APP, lambda stage, round, at=attempt: tmp_path / at / f"{stage}-{round}", "run", Journal())
                replies = SiteGrid(link, sites, cache, patience=200.0, poll=0.5).send_and_receive(requests()[:2])
                assert numbers(replies) == UNDISTURBED[:2]
                if attempt == "first":
                    superlink.send_signal(signal.SIGKILL)
                    superlink.wait()
                    superlink = start_superlink(tmp_path, fleet, control, appio)
        assert sorted(trained) == [0, 1]  # the second time they answer what they have kept, signed over the new nonce
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
        superlink.kill()
        superlink.wait()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no key\n", "not a public key of site north"),
        (
            ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(OPENSSH, serialization.PublicFormat.OpenSSH),
            "not on the curve P-384",
        ),
    ],
)
def test_what_is_no_site_key_is_refused(content, said, tmp_path):
    (tmp_path / "north.pub").write_bytes(content)
    with pytest.raises(FcitError, match=said):
        read_site("north", tmp_path / "north.pub")
