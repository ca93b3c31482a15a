"""How often the server asks the SuperLink who is there: once a look, for each question is a line of its log.

And what it says where the SuperLink is not there, or is another one.
"""

from concurrent import futures
from datetime import timedelta
from types import SimpleNamespace

import grpc
import pytest
from certified import LATER, Authority

from fcit_plugin.deployment.addresses import free_ports
from fcit_plugin.deployment.connection import check_connection
from fcit_plugin.federation import superlink
from fcit_plugin.federation.site_grid import LinkLost
from fcit_plugin.federation.superlink import SuperLink


class Control:
    """The Control API of a SuperLink that forgets all nodes when it starts again."""

    def __init__(self):
        self.nodes, self.asked, self.numbers = {}, 0, iter(range(1000))

    def ListNodes(self, request):  # the stub's
        self.asked += 1
        return SimpleNamespace(nodes_info=[*self.nodes.values()])

    def RegisterNode(self, request):
        fields = {"status": "online", "last_activated_at": "now", "unregistered_at": ""}
        self.nodes[request.public_key] = SimpleNamespace(node_id=next(self.numbers), public_key=request.public_key, **fields)
        return self.nodes[request.public_key]

    def UnregisterNode(self, request):
        next(node for node in self.nodes.values() if node.node_id == request.node_id).unregistered_at = "now"


def test_one_question_a_look_and_what_the_superlink_has_forgotten_is_registered_again():
    link, control, keys = SuperLink("127.0.0.1:1", "127.0.0.1:2", None), Control(), [b"%d" % number for number in range(20)]
    link._stub = control

    def look():
        before = control.asked
        online = link.online()
        numbers = [link.node_of(key) for key in keys]
        assert len({*numbers}) == len(keys)
        return {*online} == {*numbers}, control.asked - before

    assert look() == (False, 1 + len(keys)), "they are registered"
    assert [look() for _ in range(3)] == [(True, 1)] * 3
    control.nodes.clear()  # it was started again
    assert look() == (False, 1 + len(keys))
    assert look() == (True, 1)
    was = link.node_of(keys[3])
    link.forget(keys[3])
    assert link.node_of(keys[3]) != was, "a node that was shut out does not come back under its number"


def shown(certificate, key):
    """A server of gRPC's with a certificate, which is no SuperLink; and its port."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())]))
    server.start()
    return server, port


BEFORE = timedelta(days=-500)
WRONG = {
    "expired": (lambda ca, other: ca.server("127.0.0.1", shift=BEFORE), "has expired on .* let the operator type"),
    "of tomorrow": (lambda ca, other: ca.server("127.0.0.1", shift=LATER), "set the clock right"),
    "of another CA": (lambda ca, other: other.server("127.0.0.1"), "is by CN=proxy, not by the CA in"),
    "nobody there": (None, r"Nothing listens at .*; start superlink\.sh there"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_server_says_in_our_words_why_its_superlink_cannot_be_reached_and_looks_once(what, tmp_path, monkeypatch):
    ca, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other", "proxy")
    made, said = WRONG[what]
    server, port = shown(*made(ca, other)) if made else (None, free_ports(1)[0])
    looked = []
    monkeypatch.setattr(superlink, "check_connection", lambda *given: looked.append(given) or check_connection(*given))
    link = SuperLink(f"127.0.0.1:{port}", "127.0.0.1:1", ca.file.read_bytes(), ca.file)
    for _ in range(3):  # a run asks once a second, for hours
        with pytest.raises(LinkLost, match=said) as lost:
            link.online()
        assert "SSL_ERROR" not in str(lost.value) and not str(lost.value).endswith(".")
    assert len(looked) == 1
    if server is not None:
        server.stop(0)
