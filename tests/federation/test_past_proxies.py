"""What processes of one machine tell each other goes through no proxy; gRPC asks that of the environment for 127.0.0.1, too."""

import os
import socket
import threading
from concurrent import futures

import grpc
import pytest

from fcit_plugin.deployment.addresses import past_proxies
from fcit_plugin.federation.site_grid import LinkLost, RunLost
from fcit_plugin.federation.superlink import SuperLink, next_tasks

NAME = "no_grpc_proxy"


@pytest.fixture
def proxy(monkeypatch):
    """What a proxy was asked for; all that gRPC may take one from names it."""
    listening, asked = socket.create_server(("127.0.0.1", 0)), []

    def answer():
        while True:
            try:
                line, _ = listening.accept()
            except OSError:
                return
            with line:
                asked.append(line.recv(1000).split(b"\r\n")[0].decode())
                line.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

    threading.Thread(target=answer, daemon=True).start()
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{listening.getsockname()[1]}")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.setenv(name, "")  # as it was comes back afterwards
        monkeypatch.delenv(name)
    yield asked
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


@pytest.fixture
def address():
    """That of a gRPC server which knows no method."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def asks_supernode(address):
    past_proxies(address)  # as engine/site.py does
    list(next_tasks(address))


def asks_control(address):
    SuperLink(address, address, None).online()


def asks_appio(address):
    SuperLink(address, address, None)._token(0)


@pytest.mark.parametrize("ask", [asks_supernode, asks_control, asks_appio])
@pytest.mark.parametrize("given", [{}, {"no_proxy": "example.org"}, {"no_grpc_proxy": "example.org", "no_proxy": "*"}])
def test_this_machine_is_reached_past_a_proxy(given, ask, proxy, address, monkeypatch):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises((LinkLost, RunLost, grpc.RpcError), match="UNIMPLEMENTED"):
        ask(address)
    assert proxy == []


def test_other_machines_are_reached_as_the_environment_says(proxy, monkeypatch):
    monkeypatch.setenv("no_proxy", " near.example.org, 10.0.0.5")
    past_proxies("10.1.1.1:9091")
    past_proxies("10.1.1.1:9091")
    assert os.environ[NAME] == "near.example.org,10.0.0.5,127.0.0.1,localhost,::1,10.1.1.1"
    with grpc.insecure_channel("fl.example.org:9092") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/a/b")(b"", timeout=5)
    assert proxy and proxy[0].startswith("CONNECT fl.example.org:9092")
