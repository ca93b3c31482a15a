"""The table of faulty replies, told by a site over the network: the round is that without the site, bit for bit."""

import copy
import tracemalloc

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from faults import TABLE
from flwr.app import Context, Message, RecordDict
from sites import CA, SIGNER
from test_faults import KEYS
from test_reply_limits import (
    a_piece_with_pieces,
    an_array_in_a_head_alone,
    one_array_many_times,
    one_piece_many_times,
    one_record_many_times,
    pieces_without_end,
)
from toy import TOKENS, Toy, bits
from wire import over_the_wire

from fcit_plugin.errors import one_line
from fcit_plugin.federation.client import make_client_app
from fcit_plugin.federation.envelope import nonce_of, open_request, sealed_failure, sealed_reply
from fcit_plugin.federation.reply_cache import NoJournal, ReplyCache
from fcit_plugin.federation.site_grid import Site, SiteGrid

pytestmark = pytest.mark.thorough

PRIVATE = [ec.generate_private_key(ec.SECP384R1()) for _ in TOKENS]
SITES = {client: Site(f"site-{client}", key.public_key(), b"%d" % client) for client, key in enumerate(PRIVATE)}
#: One that opens a subspace.
FAULTY = 3
#: What cannot come over the network: the SuperLink takes one reply to a request, and a site signs for itself alone
#: (``test_site_grid.py``). And a site's failure always has a reason.
NOT_HERE = {fault.name for fault in TABLE if fault.name.startswith(("replies ", "says that it failed, without"))}


class Link:
    """Delivers at once; one site's replies of one kind are faulty, or something unsigned comes instead of them."""

    def __init__(self, local, phase=None, apply=None, instead=None):
        self.app, self.inbox = make_client_app(local), {}
        self.phase, self.apply, self.instead = phase, apply or (lambda request, reply: [reply]), instead

    def node_of(self, key):
        return int(key)

    def online(self):
        return dict.fromkeys(SITES, "up")

    def push(self, message):
        message.metadata.__dict__["_message_id"] = name = nonce_of(message.content)
        client, kind = message.metadata.dst_node_id, message.metadata.message_type
        content = self.answer(client, kind, message.content)
        if content is not None:
            instead = self.instead if (client, kind) == (FAULTY, self.phase) else None
            self.inbox[name] = Message(content, reply_to=message), instead
        return name

    def pull(self, ids):
        return [self.arrives(*self.inbox.pop(name), limits) for name, limits in ids.items() if name in self.inbox]

    def arrives(self, reply, instead, limits):
        found = over_the_wire(reply, limits, instead)
        found.metadata.__dict__["_reply_to_message_id"] = reply.metadata.reply_to_message_id
        return found

    def answer(self, client, kind, content):
        nonce, key = nonce_of(content), PRIVATE[client]
        request = Message(open_request(content, kind, SITES[client].encoded, CA), dst_node_id=client, message_type=kind)
        reply = self.app(request, Context(run_id=0, node_id=client, node_config={}, state=RecordDict(), run_config={}))
        if client == FAULTY and kind == self.phase:
            try:
                replies = self.apply(request, Message(copy.deepcopy(reply.content), reply_to=request))
            except Exception as error:  # as a site says it
                return sealed_failure(one_line(error), nonce, kind, key)
            if not replies:
                return None
            (reply,) = replies
        if reply.has_error():
            return sealed_failure(reply.error.reason, nonce, kind, key)
        return sealed_reply(reply.content, nonce, reply.metadata.message_type, key)


def round_over(toy, link, folder):
    now = [0.0]
    toy.grid = SiteGrid(
        *(link, SIGNER, SITES, ReplyCache(None, lambda stage, round: folder / f"{stage}-{round}", "run", NoJournal())),
        patience=20.0,
        timeout=20.0,
        clock=lambda: now[0],
        sleep=lambda seconds: now.__setitem__(0, now[0] + seconds),
    )
    return bits(toy.round())


@pytest.fixture(scope="module")
def honest():
    """The state after a round without the site, in one process, and after one with it."""
    return [bits(Toy(without, **KEYS).round()) for without in ({FAULTY}, ())]


def test_without_a_fault_the_round_is_that_of_one_process(honest, tmp_path):
    toy = Toy(**KEYS)
    assert round_over(toy, Link(toy.local), tmp_path) == honest[1]
    assert toy.heard.dropped == []


#: What is no answer of the site's, for it is not signed as one; and what the server cannot even write down.
GONE = {
    "gives no reply": "took longer than 20 s",
    "answers another kind of message": "its signature is not by the key",
    "names a shape of text": "what came in its name cannot be read (TypeError)",
}
FORM = "does not have the form of an update"


@pytest.mark.parametrize(
    ("fault", "phase"),
    [
        pytest.param(fault, phase, id=f"{fault.name}-{phase}")
        for fault in TABLE
        if fault.name not in NOT_HERE
        for phase in fault.phases
    ],
)
def test_a_round_with_a_bad_reply_is_the_round_without_that_site(fault, phase, honest, tmp_path):
    toy = Toy(**KEYS)
    assert round_over(toy, Link(toy.local, phase, fault.apply), tmp_path) == honest[0]
    (dropped,) = toy.heard.dropped
    assert dropped["client"] == FAULTY
    assert GONE.get(fault.name, fault.says) in dropped["reason"] or (phase == "train" and FORM in dropped["reason"])
    assert "\n" not in dropped["reason"] and "\x1b" not in dropped["reason"] and len(dropped["reason"]) <= 300


GROWING = {
    one_piece_many_times: "has 419,430,400 bytes of arrays",
    one_array_many_times: "has 838,886,400 bytes of arrays",
    one_record_many_times: "bytes that describe arrays",
    pieces_without_end: "bytes that describe arrays",
    an_array_in_a_head_alone: "names other parts than its body",
    a_piece_with_pieces: "names other parts than its body",
}


@pytest.mark.parametrize("phase", ["query", "train"])
@pytest.mark.parametrize("make", GROWING, ids=lambda make: make.__name__)
def test_a_small_message_that_grows_in_a_sites_name_costs_its_reply_and_nothing_else(make, phase, honest, tmp_path, caplog):
    toy, sent = Toy(**KEYS), make()
    tracemalloc.start()
    try:
        assert round_over(toy, Link(toy.local, phase, instead=sent), tmp_path) == honest[0]
        assert tracemalloc.get_traced_memory()[1] < 2**25  # of the three times that it is asked
    finally:
        tracemalloc.stop()
    (dropped,) = toy.heard.dropped
    assert (dropped["client"], dropped["stage"], dropped["round"]) == (FAULTY, 0, 0)
    assert dropped["reason"].startswith("site site-3 was away for more than 20 s (`fcit_site_patience`); at last it has not")
    assert "has not answered: what came in its name " in dropped["reason"] and GROWING[make] in dropped["reason"]
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING" and "site-3" in record.message]
    assert warning.startswith("Site site-3 has not answered: what came in its name ") and warning.endswith("for 20 s.")


def test_most_faults_are_tried():
    assert len(NOT_HERE) == 6
    assert NOT_HERE.issubset(fault.name for fault in TABLE)
