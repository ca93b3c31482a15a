"""Sites behind a link that loses, repeats, delays and forges: whole rounds end as in process, or wait and say why."""

import itertools
import logging

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MessageType, RecordDict
from flwr.common.constant import ErrorCode
from lying_arrays import LIES, lying
from sites import CA, SIGNER
from toy import BLANK, Local, noise
from wire import over_the_wire

from fcit_plugin.errors import FcitError
from fcit_plugin.federation.client import make_client_app
from fcit_plugin.federation.envelope import ENVELOPE, nonce_of, open_reply, open_request, sealed_failure, sealed_reply
from fcit_plugin.federation.messages import ARRAYS, CONFIG, ClientConfig, to_record
from fcit_plugin.federation.reply_cache import NoJournal, ReplyCache
from fcit_plugin.federation.site_grid import LinkLost, RunLost, Site, SiteGrid

KEYS = [ec.generate_private_key(ec.SECP384R1()) for _ in range(3)]
SITES = [Site(name, key.public_key(), name.encode()) for name, key in zip(("north", "south", "west"), KEYS, strict=True)]
APP = make_client_app(Local())


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def opened(node, message):
    """Records and nonce of a request that the server has signed for a node's site."""
    content, site = message.content, SITES[node - 100]
    return open_request(content, message.metadata.message_type, site.encoded, CA), nonce_of(content)


class SuperLink:
    """Delivers to the sites at once, but for the faults: callables (link, node, message, reply) -> what arrives for it."""

    def __init__(self, clock, faults=()):
        self.clock, self.faults = clock, list(faults)
        self.up = {100 + number: "first" for number in range(len(SITES))}
        self.pushed, self.inbox, self.ids, self.trained = [], {}, itertools.count(), []

    def node_of(self, key):
        return 100 + [site.encoded for site in SITES].index(key)

    def online(self):
        return dict(self.up)

    def answer(self, node, message):
        content, nonce = opened(node, message)
        client, kind = node - 100, message.metadata.message_type
        request = Message(content, dst_node_id=client, message_type=kind)
        reply = APP(request, Context(run_id=0, node_id=client, node_config={}, state=RecordDict(), run_config={}))
        self.trained.append(client)
        return Message(sealed_reply(reply.content, nonce, kind, KEYS[client]), reply_to=message)

    def push(self, message):
        message.metadata.__dict__["_message_id"] = name = f"m{next(self.ids)}"
        self.pushed.append(message)
        node = message.metadata.dst_node_id
        fault = self.faults.pop(0) if self.faults else None
        reply = fault(self, node, message) if fault else self.answer(node, message)
        if reply is not None:
            self.inbox[name] = reply
        return name

    def pull(self, ids):
        return [over_the_wire(self.inbox.pop(name), limits) for name, limits in ids.items() if name in self.inbox]


def requests(kind=MessageType.TRAIN):
    arrays = to_record(noise(5, BLANK))
    return [
        Message(
            RecordDict({ARRAYS: arrays, CONFIG: ClientConfig("run", 0, 1, client, 0, 0).to_record()}),
            dst_node_id=client,
            message_type=kind,
        )
        for client in range(len(SITES))
    ]


def grid_of(link, clock, folder, **changes):
    cache = ReplyCache(APP, lambda stage, round: folder / f"{stage}-{round}", "run", NoJournal())
    given = {"patience": 600.0, "poll": 1.0} | changes
    return SiteGrid(link, SIGNER, dict(enumerate(SITES)), cache, clock=clock, sleep=clock.sleep, **given)


def numbers(replies):
    return [
        {key: array.numpy().tolist() for record in reply.content.array_records.values() for key, array in record.items()}
        for reply in replies
    ]


UNDISTURBED = numbers(
    APP(request, Context(run_id=0, node_id=0, node_config={}, state=RecordDict(), run_config={})) for request in requests()
)


def error_of(code):
    return lambda link, node, message: Message(Error(code, f"error {code}"), reply_to=message)


def another_sites_key(link, node, message):
    content, nonce = opened(node, message)
    return Message(sealed_reply(content, nonce, message.metadata.message_type, KEYS[2 if node == 100 else 0]), reply_to=message)


def unsigned(link, node, message):
    return Message(opened(node, message)[0], reply_to=message)


def old_nonce(link, node, message):
    reply = link.answer(node, message)
    content = RecordDict({name: record for name, record in reply.content.items() if name != ENVELOPE})
    return Message(sealed_reply(content, "0" * 32, message.metadata.message_type, KEYS[node - 100]), reply_to=message)


def another_kind(link, node, message):
    content, nonce = opened(node, message)
    return Message(sealed_reply(content, nonce, MessageType.QUERY, KEYS[node - 100]), reply_to=message)


def changed_on_the_way(link, node, message):
    reply = link.answer(node, message)
    reply.content[ARRAYS] = to_record(noise(6, BLANK))
    return reply


def unsigned_more(link, node, message):
    reply = link.answer(node, message)
    reply.content["more"] = ArrayRecord()
    return reply


def restarted(link, node, message):
    link.up[node] = f"{link.up[node]}+"  # what it was asked is gone with its memory, and no error comes


FORGED = [another_sites_key, unsigned, old_nonce, another_kind, changed_on_the_way, unsigned_more]
LOST = [error_of(code) for code in sorted(value for name, value in vars(ErrorCode).items() if name.isupper())]


@pytest.mark.parametrize("fault", [*FORGED, *LOST, restarted], ids=lambda fault: getattr(fault, "__name__", "error"))
@pytest.mark.parametrize("times", [1, 3])
def test_whatever_is_lost_or_forged_is_asked_for_again_and_ends_in_the_same_numbers(fault, times, tmp_path):
    clock = Clock()
    link = SuperLink(clock, [fault] * times)
    replies = grid_of(link, clock, tmp_path).send_and_receive(requests())
    assert numbers(replies) == UNDISTURBED
    assert [reply.metadata.src_node_id for reply in replies] == [0, 1, 2]
    nonces = [message.content[ENVELOPE]["nonce"] for message in link.pushed]
    assert len(set(nonces)) == len(nonces) == 3 + times
    assert all(ENVELOPE not in reply.content for reply in replies)


def test_a_link_that_is_down_for_two_minutes_costs_nothing(tmp_path, caplog):
    clock = Clock()
    link = SuperLink(clock)

    def down(ids, usual=link.pull):
        if clock.now < 120:
            raise LinkLost("the SuperLink at 127.0.0.1:9093 does not answer")
        return usual(ids)

    link.pull = down
    with caplog.at_level(logging.WARNING):
        assert numbers(grid_of(link, clock, tmp_path).send_and_receive(requests())) == UNDISTURBED
    assert [record.message for record in caplog.records] == [
        f"Site {name} cannot be asked: the SuperLink at 127.0.0.1:9093 does not answer; it is asked again for 600 s."
        for name in ("north", "south", "west")
    ]
    assert sorted(link.trained) == [0, 1, 2]


def test_a_site_that_is_away_is_waited_for_and_named_once_patience_is_over(tmp_path):
    clock = Clock()
    link = SuperLink(clock)
    del link.up[101]
    replies = list(grid_of(link, clock, tmp_path).send_and_receive(requests()))
    assert [reply.has_error() for reply in replies] == [False, True, False]
    assert replies[1].error.reason == "site south was away for more than 600 s (`fcit_site_patience`); at last it is not there"
    assert replies[1].metadata.src_node_id == 1
    assert 600 < clock.now < 610


def test_time_at_work_is_no_time_away(tmp_path):
    clock = Clock()
    link = SuperLink(clock)
    usual = link.pull
    link.pull = lambda ids: usual(ids) if clock.now > 5000 else []
    assert numbers(grid_of(link, clock, tmp_path).send_and_receive(requests())) == UNDISTURBED


def test_a_site_that_only_ever_loses_messages_is_given_up(tmp_path):
    clock = Clock()
    link = SuperLink(clock, [error_of(ErrorCode.CLIENT_APP_CRASHED)] * 500)
    replies = list(grid_of(link, clock, tmp_path).send_and_receive(requests()[:1]))
    assert "was away for more than 600 s" in replies[0].error.reason
    assert len(link.pushed) < 30  # the pauses grow


def test_a_site_that_takes_too_long_is_named(tmp_path):
    clock = Clock()
    link = SuperLink(clock, [lambda *given: None])
    (reply,) = grid_of(link, clock, tmp_path, timeout=50.0).send_and_receive(requests()[:1])
    assert reply.error.reason == "site north took longer than 50 s (`fcit_client_timeout`)"


def test_what_anybody_says_in_a_sites_name_is_one_short_line_in_the_log(tmp_path, caplog):
    clock = Clock()
    said = Error(ErrorCode.UNKNOWN, "\x1b[31mwhy?\n" * 100_000)
    link = SuperLink(clock, [lambda link, node, message: Message(said, reply_to=message)])
    assert numbers(grid_of(link, clock, tmp_path).send_and_receive(requests())) == UNDISTURBED
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("Site north has not answered: [31mwhy? [31mwhy? ") and warning.endswith(
        "...; it is asked again for 600 s."
    )
    assert warning.isprintable() and len(warning) < 400


def test_of_the_sites_that_were_given_up_the_latest_hundred_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("fcit_plugin.federation.site_grid.MOST_LATE", 2)
    clock, late = Clock(), {}
    link = SuperLink(clock, [lambda *given: None] * 3)
    grid_of(link, clock, tmp_path, timeout=50.0, late=late).send_and_receive(requests())
    assert [*late] == ["m1", "m2"]


@pytest.mark.parametrize("forged", [False, True], ids=["its own", "another node's"])
def test_a_reply_after_its_time_is_dropped_and_named_if_it_is_the_sites(forged, tmp_path, caplog):
    clock, late, held = Clock(), {}, []
    link = SuperLink(clock, [lambda link, node, message: held.append((node, message))])
    grid_of(link, clock, tmp_path, timeout=50.0, late=late).send_and_receive(requests()[:1])
    ((node, message),) = held
    link.inbox[message.metadata.message_id] = (another_sites_key if forged else SuperLink.answer)(link, node, message)
    with caplog.at_level(logging.WARNING):
        replies = grid_of(link, clock, tmp_path / "later", late=late).send_and_receive(requests()[1:])
    assert numbers(replies) == UNDISTURBED[1:]
    said = "The reply of site north in stage 0, round 1 has come after its time and is dropped."
    assert [record.message for record in caplog.records] == ([] if forged else [said])
    assert not late  # it is said once


def held_up(link, clock, seconds, after):
    """A link whose server is held up for a while, after so many looks, and finds its run lost and the SuperLink away."""
    looks, online = itertools.count(), link.online

    def look():
        number = next(looks)
        if number == after:
            clock.now += seconds
            raise RunLost("the run was lost")
        if number == after + 1:
            raise LinkLost("not there")
        return online()

    link.online = look
    return link


@pytest.mark.parametrize("bound", [{"patience": 20.0}, {"timeout": 20.0}, {"patience": 21600.0, "timeout": 3600.0}])
@pytest.mark.parametrize("away", [False, True])
def test_time_in_which_the_server_itself_was_held_up_costs_no_site_its_round(bound, away, tmp_path):
    clock = Clock()
    link = held_up(
        SuperLink(clock, [lambda *given: None] * (2 if away else 3)), clock, 9 * 3600.0, after=2
    )  # the first requests are lost
    if away:  # until a moment after that
        link.up.pop(101)
        sleep = clock.sleep
        clock.sleep = lambda seconds: (sleep(seconds), clock.now > 30000.0 and link.up.setdefault(101, "first"))
    replies = grid_of(link, clock, tmp_path, **bound).send_and_receive(requests())
    assert numbers(replies) == UNDISTURBED


def test_it_is_said_who_has_answered_who_is_awaited_and_since_when(tmp_path):
    clock, said = Clock(), []
    link = SuperLink(clock)
    del link.up[102]
    usual = link.pull
    ready = {0: 10, 1: 400}

    def pull(ids):
        return [] if clock.now < ready[0] else usual({name: ids[name] for name in ids if clock.now >= ready[1] or name == "m0"})

    link.pull = pull
    grid_of(link, clock, tmp_path, say=lambda line: said.append((clock.now, line))).send_and_receive(requests())
    assert said == [
        (10.0, "Site north is done; awaited: south, west."),
        (60.0, "After 60 s awaited: south at work; west (away for 60 s of 10 min)."),
        (180.0, "After 3 min awaited: south at work; west (away for 3 min of 10 min)."),
        (400.0, "Site south is done; awaited: west."),
        (540.0, "After 9 min awaited: west (away for 9 min of 10 min)."),
    ]


def test_a_signed_failure_is_the_sites_answer(tmp_path):
    def fails(link, node, message):
        nonce = opened(node, message)[1]
        failure = sealed_failure("no records of text_sum", nonce, message.metadata.message_type, KEYS[node - 100])
        return Message(failure, reply_to=message)

    clock = Clock()
    replies = list(grid_of(SuperLink(clock, [fails]), clock, tmp_path).send_and_receive(requests()))
    assert [reply.has_error() for reply in replies] == [True, False, False]
    assert replies[0].error.reason == "no records of text_sum"


def test_a_server_that_starts_again_asks_only_those_whose_replies_it_has_not(tmp_path):
    clock = Clock()
    link = SuperLink(clock)
    grid_of(link, clock, tmp_path).send_and_receive(requests()[:2])
    again = SuperLink(clock)
    assert numbers(grid_of(again, clock, tmp_path).send_and_receive(requests())) == UNDISTURBED
    assert again.trained == [2]


def test_two_sites_with_one_key_are_refused(tmp_path):
    twice = [SITES[0], Site("south", SITES[0].key, SITES[0].encoded)]
    with pytest.raises(FcitError, match=r"one public key for north and south"):
        SiteGrid(SuperLink(Clock()), SIGNER, dict(enumerate(twice)), None, patience=1.0)


def test_values_that_compare_equal_are_signed_as_what_they_are():
    reply = sealed_reply(RecordDict({"c": ConfigRecord({"x": 1})}), "n", "train", KEYS[0])
    reply["c"] = ConfigRecord({"x": True})
    with pytest.raises(FcitError, match="signature"):
        open_reply(reply, "n", "train", KEYS[0].public_key())


def spoiled(change):
    """A reply that its site has signed, and that is no update."""

    def fault(link, node, message):
        content, nonce = opened(node, message)
        request = Message(content, dst_node_id=node - 100, message_type="train")
        reply = APP(request, Context(run_id=0, node_id=node - 100, node_config={}, state=RecordDict(), run_config={}))
        return Message(sealed_reply(change(reply.content), nonce, "train", KEYS[node - 100]), reply_to=message)

    return fault


def without(name):
    return lambda content: RecordDict({key: record for key, record in content.items() if key != name})


def with_array(array):
    return lambda content: RecordDict({**content, ARRAYS: ArrayRecord({"a": array})})


SPOILED = {
    "no metrics": without("metrics"),
    "metrics of another kind": lambda content: RecordDict({**content, "metrics": ConfigRecord({"a": 1})}),
    "nothing at all": lambda content: RecordDict(),
    "an array of torch": with_array(Array(dtype="float32", shape=(1,), stype="torch", data=b"xxxx")),
    "a type that there is not": with_array(Array(dtype="nonsense", shape=(1,), stype="numpy.ndarray", data=b"xxxx")),
    "no numbers": with_array(Array(dtype="float32", shape=(1,), stype="numpy.ndarray", data=b"garbage")),
    "a type that no update has": with_array(Array(np.zeros(2, np.float64))),
    **{f"data of {name}": with_array(lying(name)) for name in LIES},
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_reply_that_is_no_update_is_its_sites_failure_alone(name, tmp_path):
    clock = Clock()
    link = SuperLink(clock, [spoiled(SPOILED[name])])
    replies = list(grid_of(link, clock, tmp_path).send_and_receive(requests()))
    assert numbers(replies[1:]) == UNDISTURBED[1:]
    assert "does not have the form of an update" in replies[0].error.reason
    assert not [*tmp_path.rglob("client-0*")]  # nothing of it is kept
