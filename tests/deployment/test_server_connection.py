"""Real servers on loopback: the right one is taken, and of each other one it is said what is wrong with it."""

import contextlib
import socket
import time
from concurrent import futures

import grpc
import pytest
from certified import LATER, LONG_AGO, Authority, listening, tls_server
from cryptography import x509

from fcit_plugin.deployment import operator
from fcit_plugin.deployment.addresses import as_dialed, free_ports, split_address
from fcit_plugin.deployment.connection import check_connection, check_free
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.site_executor import supernode_command


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"), "hospitals")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("other"), "proxy")


@pytest.fixture(scope="module")
def namesake(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("namesake"), "hospitals")


def sentence(address, file, timeout=0.5):
    with pytest.raises(FcitError) as caught:
        check_connection(address, file, timeout)
    said = str(caught.value)
    assert said.endswith(".") and "\n" not in said
    return said


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_right_server_is_taken(host, ca):
    certificate, key = ca.server("fl.example.org")  # and the machine itself
    with tls_server(certificate, key) as port:
        ends = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
        assert check_connection(f"{host}:{port}", ca.file) == ends


#: Which server shows what, and what is said of it: of the certificate's own words those that help.
SHOWN = {
    "expired": (lambda ca, *_: ca.server("localhost", shift=LONG_AGO), ["has expired on 20", "deploy renew"]),
    "not yet": (lambda ca, *_: ca.server("localhost", shift=LATER), ["holds from", "set the clock right"]),
    "another CA": (lambda ca, other, *_: other.server("localhost"), ["is by CN=proxy", "not by the CA in"]),
    "a CA of the same name": (
        lambda ca, other, namesake: namesake.server("localhost"),
        ["not by the CA in", "ca.crt of today"],
    ),
    "the CA itself": (lambda ca, other, *_: (other.file, pem_key(other)), ["not by the CA in"]),
}


def pem_key(authority):
    from cryptography.hazmat.primitives.serialization import PrivateFormat

    from fcit_plugin.deployment.keys import write_private_key

    path = authority.folder / "ca.key"
    write_private_key(path, authority.key, PrivateFormat.PKCS8)
    return path


@pytest.mark.parametrize("case", SHOWN)
def test_another_certificate_is_refused_with_what_it_says(case, ca, other, namesake):
    make, said = SHOWN[case]
    with tls_server(*make(ca, other, namesake)) as port:
        told = sentence(f"localhost:{port}", ca.file)
    assert all(part in told for part in [*said, f"localhost:{port}"]), told


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_for_another_host_is_refused_with_its_names(host, ca, monkeypatch):
    monkeypatch.setattr("fcit_plugin.deployment.certificates.LOCAL", ())
    with tls_server(*ca.server("fl.example.org", "10.0.0.5")) as port:
        told = sentence(f"{host}:{port}", ca.file)
    assert f"is for fl.example.org, 10.0.0.5, not for {host}" in told


def hold(connection):
    time.sleep(1.0)


def talk(connection):
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    connection.recv(1000)


def plain_http2(connection):
    connection.sendall(bytes.fromhex("000000040000000000"))  # an empty SETTINGS frame, as gRPC without TLS greets
    connection.recv(1000)


@pytest.mark.parametrize("handle", [hold, talk, plain_http2, lambda connection: None])
def test_what_does_not_speak_tls_is_named(handle, ca):
    with listening(handle) as port:
        assert f"What listens at 127.0.0.1:{port} does not speak TLS (" in sentence(f"127.0.0.1:{port}", ca.file)


@pytest.mark.parametrize("protocol", [None, "http/1.1"])
def test_a_web_server_of_the_same_ca_is_no_superlink(protocol, ca):
    with tls_server(*ca.server("localhost"), protocol) as port:
        assert "is no Flower SuperLink" in sentence(f"localhost:{port}", ca.file)


@contextlib.contextmanager
def full():
    """A port whose queue is full, so that nothing is answered any more: as behind a firewall."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def test_where_nobody_answers_it_is_said_why(ca):
    (port,) = free_ports(1)
    assert sentence(f"127.0.0.1:{port}", ca.file) == (
        f"Nothing listens at 127.0.0.1:{port}; start superlink.sh there, or check the port."
    )
    assert "No machine is called no-such-machine.invalid" in sentence("no-such-machine.invalid:9092", ca.file)
    assert "cannot be connected to" in sentence(f"{'x' * 70}.org:9092", ca.file)
    with full() as port:
        assert f"127.0.0.1:{port} does not answer within 0.5 s" in sentence(f"127.0.0.1:{port}", ca.file)
    assert "cannot be reached" in sentence("255.255.255.255:9092", ca.file)


def test_a_ca_file_that_is_wrong_is_said_before_anything_is_connected_to(ca, tmp_path):
    (tmp_path / "none.crt").write_text("nothing")
    old = Authority(tmp_path / "old", shift=LONG_AGO)
    for file, said in (
        (tmp_path / "none.crt", "is not a certificate but something else"),
        (tmp_path / "missing.crt", "cannot be read (No such file or directory)"),
        (pem_key(ca), "is not a certificate but a private key"),
        (old.file, "has expired"),
    ):
        told = sentence("no-such-machine.invalid:9092", file)
        assert said in told and str(file) in told


@pytest.mark.parametrize(
    "address",
    ["", "fl.example.org", "fl.example.org:", ":9092", "a:b", "a:0", "a:65536", "::1:9092", "[::1]", "a:-1", "a:9\u0665"],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(FcitError, match=r"fl\.example\.org:9092"):
        split_address(address)


@pytest.mark.parametrize(("address", "parts"), [("a.org:9092", ("a.org", 9092)), ("[::1]:1", ("::1", 1))])
def test_an_address_is_a_host_and_a_port(address, parts):
    assert split_address(address) == parts


FORMS = ["localhost", "LocalHost", "localhost.", "\uff2cocal\uff28ost", "127.0.0.1", "[::1]", "[0:0:0:0:0:0:0:1]", "[::0001]"]


def test_what_the_check_finds_well_is_dialed_so_that_grpc_comes_through_in_each_form_of_a_name(ca):
    certificate, key = ca.server("localhost", "127.0.0.1", "::1")
    server = grpc.server(futures.ThreadPoolExecutor(1))
    shown = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    port = server.add_secure_port("0.0.0.0:0", shown)  # as superlink.sh has it
    server.start()
    try:
        for host in FORMS:
            check_connection(f"{host}:{port}", ca.file, 20.0)
            command = supernode_command(f"{host}:{port}", ca.file, key, "127.0.0.1:1")
            for address in (as_dialed(f"{host}:{port}"), command[command.index("--superlink") + 1]):
                with grpc.secure_channel(address, grpc.ssl_channel_credentials(ca.file.read_bytes())) as channel:
                    grpc.channel_ready_future(channel).result(20.0)
    finally:
        server.stop(0)


@pytest.mark.parametrize("host", ["stra\u00dfe.example.org", "fe80::1%eth0", "127.1", "1.2.3", "a..b", f"{'x' * 64}.org"])
def test_what_programs_take_for_different_machines_or_none_is_refused_wherever_it_is_typed(host, tmp_path):
    with pytest.raises(FcitError) as by_init:
        operator.init(tmp_path / "deploy", [host])
    with pytest.raises(FcitError) as by_recipe:
        split_address(f"[{host}]:9092" if ":" in host else f"{host}:9092", "fcit_superlink")
    for said in (str(by_init.value), str(by_recipe.value)):
        assert ascii(host)[1:-1] in said or host in said
        assert said.endswith(".") and "\n" not in said


def test_a_server_that_has_moved_is_told_what_to_write_where(tmp_path):
    folder = tmp_path / "deploy"
    operator.init(folder, ["old.example.org"])
    operator.renew(folder, ["new.example.org"])
    with pytest.raises(FcitError, match=r"is for new\.example\.org, .* not for old\.example\.org, which .*server\.txt"):
        operator.check_server(folder)
    (folder / "server.txt").write_text("new.example.org:9092\n")
    operator.check_server(folder)
    assert "new.example.org:9092" in (operator.write_kit(folder, "north") / "site.yaml").read_text()


def test_a_port_that_cannot_be_had_is_said_why():
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as server:  # as gRPC opens its ports
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(FcitError, match="another program has the port"):
                check_free(f"{host}:{port}")
    check_free(f"127.0.0.1:{port}")
    with pytest.raises(FcitError, match="no address of this machine"):
        check_free("192.0.2.1:9092")
    with pytest.raises(FcitError, match="no address of this machine"):
        check_free("no-such-machine.invalid:9092")
