"""A site's side: what it answers to whom, and its SuperNode, which lives and dies with it."""

import logging
import os
import signal
import stat
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from certified import Authority
from crashes import in_a_child, limit_file_size
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from sites import SIGNER, identity_of, signer_by, site_app
from test_site_grid import APP, UNDISTURBED, numbers, requests

from fcit_plugin.deployment.addresses import free_ports
from fcit_plugin.deployment.certificates import new_ca, now
from fcit_plugin.deployment.keys import new_key, write_private_key
from fcit_plugin.deployment.refusals import CAME_THROUGH, TRIED
from fcit_plugin.federation.envelope import ENVELOPE, open_reply, sealed_request
from fcit_plugin.federation.messages import CONFIG
from fcit_plugin.federation.site_executor import SuperNode, answer_of, supernode_command

SITE = identity_of(ec.generate_private_key(ec.SECP384R1()))


def wait_until(true, seconds=10.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def sent(request, kind=MessageType.TRAIN):
    content, nonce = sealed_request(request.content, kind, SITE.encoded, SIGNER)
    return Message(content, dst_node_id=77, message_type=kind), nonce


def test_a_site_that_is_asked_twice_trains_once_and_signs_both_times(tmp_path):
    trained = []

    def app(message, context):
        trained.append(message.metadata.dst_node_id)
        return APP(message, context)

    for _ in range(2):
        message, nonce = sent(requests()[1])
        content, failure = open_reply(
            answer_of(site_app(app, tmp_path), SITE, message).content, nonce, "train", SITE.key.public_key()
        )
        assert failure is None
        assert numbers([Message(content, dst_node_id=0, message_type="train")]) == UNDISTURBED[1:2]
        assert {type(array).__name__ for record in content.array_records.values() for array in record.values()} == {"Array"}
    assert trained == [1]


@pytest.mark.parametrize("error", [ValueError("broken record"), OSError(28, "No space left on device"), KeyError("x")])
def test_whatever_fails_at_a_site_is_said_and_signed(error, tmp_path):
    def app(message, context):
        raise error

    message, nonce = sent(requests()[1])
    _, failure = open_reply(answer_of(site_app(app, tmp_path), SITE, message).content, nonce, "train", SITE.key.public_key())
    assert str(error.args[-1]) in failure


def test_what_is_no_request_of_the_plugin_is_refused_unread(tmp_path):
    def app(message, context):
        raise AssertionError

    bare = answer_of(site_app(app, tmp_path), SITE, Message(requests()[0].content, dst_node_id=7, message_type="train"))
    assert bare.error.reason == "it has no envelope"
    message, nonce = sent(requests()[0], "evaluate")
    _, failure = open_reply(answer_of(site_app(app, tmp_path), SITE, message).content, nonce, "evaluate", SITE.key.public_key())
    assert failure == "A site answers no messages of the type evaluate."
    message, nonce = sent(Message(RecordDict(), dst_node_id=7, message_type="train"))
    _, failure = open_reply(answer_of(site_app(app, tmp_path), SITE, message).content, nonce, "train", SITE.key.public_key())
    assert "config" in failure


def test_a_supernode_is_started_again_and_ends_with_the_block(tmp_path):
    with SuperNode(["/bin/sleep", "60"], tmp_path / "log", pause=0.0) as supernode:
        first = supernode._process
        first.kill()
        first.wait()
        supernode.look()
        second = supernode._process
        assert second.pid != first.pid
        supernode.look()
        assert supernode._process is second
    assert second.poll() is not None


def test_a_supernode_ends_with_a_site_that_is_killed(tmp_path):
    program = (
        "import pathlib, sys, time\nfrom fcit_plugin.federation.site_executor import SuperNode\n"
        "with SuperNode(['/bin/sleep', '60'], pathlib.Path(sys.argv[1])) as node:\n"
        "    print(node._process.pid, flush=True)\n    time.sleep(60)"
    )
    site = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    child = int(site.stdout.readline())
    command = Path(f"/proc/{child}/cmdline")
    wait_until(lambda: command.read_text().startswith("/bin/sleep"))
    site.send_signal(signal.SIGKILL)
    site.wait()
    wait_until(lambda: not command.exists() or not command.read_text())


def envelope_of(message, **changes):
    """The message with another envelope."""
    records = {name: record for name, record in message.content.items() if name != ENVELOPE}
    envelope = ConfigRecord({**message.content[ENVELOPE], **changes})
    return Message(RecordDict({**records, ENVELOPE: envelope}), dst_node_id=77, message_type=message.metadata.message_type)


def by(signer=SIGNER, to=SITE.encoded, kind="train", asked=None):
    content, nonce = sealed_request((asked or requests()[1]).content, kind, to, signer)
    return Message(content, dst_node_id=77, message_type="train"), nonce


def with_other_weights():
    message, nonce = by()
    records = {**requests()[0].content, CONFIG: requests()[2].content[CONFIG], ENVELOPE: message.content[ENVELOPE]}
    return Message(RecordDict(records), dst_node_id=77, message_type="train"), nonce


def own_ca():
    key = new_key()
    return signer_by(new_ca(key, "another federation", now()), key)


STRANGERS = {
    "another federation's server": (lambda: by(own_ca()), "not signed for this site by a certificate of this site's CA"),
    "another site's request": (lambda: by(to=identity_of(new_key()).encoded), "not signed for this site"),
    "another type's signature": (lambda: by(kind="query"), "not signed for this site"),
    "other records": (with_other_weights, "not signed for this site"),
    "no signature": (lambda: (envelope_of(by()[0], signature="none"), None), "is not signed"),
    "no certificate": (lambda: (envelope_of(by()[0], certificate=b"none"), None), "not signed for this site"),
    "expired": (lambda: by(signer_by(at=now() - timedelta(days=500))), "certificate is valid from"),
    "not yet valid": (lambda: by(signer_by(at=now() + timedelta(days=9))), "certificate is valid from"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_site_answers_nobody_but_its_server(name, tmp_path):
    def app(message, context):
        raise AssertionError

    message, nonce = STRANGERS[name][0]()
    answered = answer_of(site_app(app, tmp_path), SITE, message)
    _, failure = open_reply(answered.content, nonce or message.content[ENVELOPE]["nonce"], "train", SITE.key.public_key())
    assert STRANGERS[name][1] in failure
    assert not (tmp_path / "audit.jsonl").exists()


def test_a_site_says_that_its_server_cannot_be_reached_and_when_it_is_again(tmp_path, caplog):
    """A real SuperNode, at a port where nobody listens; then its log as Flower goes on with it."""
    key = tmp_path / "site.key"
    write_private_key(key, new_key())
    nobody, own = free_ports(2)
    ca = Authority(tmp_path / "ca").file
    command = supernode_command(f"127.0.0.1:{nobody}", ca, key, f"127.0.0.1:{own}")
    log = tmp_path / "supernode.log"
    with caplog.at_level(logging.WARNING), SuperNode(command, log) as supernode:

        def said():
            supernode.look()
            return [record.message.split(";")[0] for record in caplog.records]

        wait_until(said, 60.0)
        assert said() == ["The server cannot be reached"]
        with log.open("a") as file:
            file.write(f"INFO: {CAME_THROUGH} after 3.00 seconds and 2 tries.\n")
        assert said()[1:] == ["The server is reached again."]


def test_the_log_of_a_supernode_does_not_grow_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("fcit_plugin.federation.site_executor._LONGEST_LOG", 10_000)
    chatty = [sys.executable, "-u", "-c", "import time\nwhile True: print('x' * 999); time.sleep(0.001)"]
    log, largest = tmp_path / "log", 0
    with SuperNode(chatty, log) as supernode:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            supernode.look()
            largest = max(largest, log.stat().st_size)
            time.sleep(0.005)
    assert 5_000 < largest < 200_000


KEEPS_SHORT = {
    "taken away": Path.unlink,
    "renamed": lambda log: log.rename(log.with_name("log.1")),
    "renamed, with a new one in its place": lambda log: (log.rename(log.with_name("log.1")), log.write_text("")),
    "emptied": lambda log: os.truncate(log, 0),
}


@pytest.mark.parametrize("way", KEEPS_SHORT)
def test_whoever_keeps_logs_short_ends_no_site_and_hides_no_news(way, tmp_path, caplog):
    log, kept_short = tmp_path / "log", KEEPS_SHORT[way]
    with SuperNode(["/bin/sleep", "60"], log, pause=0.0) as supernode:
        printed = log.open("a")  # what a SuperNode has in its hands, whatever becomes of the name

        def says(text):
            printed.write(f"{text}\n")
            printed.flush()
            supernode.look()
            return [record.message.partition(";")[0] for record in caplog.records]

        cut_off, back = "The server cannot be reached", "The server is reached again."
        assert says("x" * 1000 + f"\n{TRIED} 1") == [cut_off]
        kept_short(log)
        assert says("something else") == [cut_off]
        assert says(CAME_THROUGH) == [cut_off, back]
        assert says(f"{TRIED} 1") == [cut_off, back, cut_off]
        kept_short(log) if log.exists() else None
        supernode._process.kill()
        supernode._process.wait()
        supernode.look()
        assert "has ended with status -9" in caplog.records[-1].message
        assert stat.S_IMODE(log.stat().st_mode) == 0o600  # also one that was made anew for everybody to read
        printed = log.open("a")
        assert says(CAME_THROUGH)[-1] == back


def test_a_full_disk_at_a_site_is_named_and_nothing_is_left_half_written(tmp_path):
    message, nonce = sent(requests()[1])

    def answered():
        content = answer_of(site_app(APP, tmp_path / "site"), SITE, message).content
        return open_reply(content, nonce, "train", SITE.key.public_key())

    def with_a_full_disk():
        limit_file_size(300)
        (tmp_path / "said").write_text(answered()[1])

    (tmp_path / "site").mkdir()
    assert in_a_child(with_a_full_disk) == 0
    said = (tmp_path / "said").read_text()
    assert "too large" in said and str(tmp_path / "site") in said, said
    content, failure = answered()  # with room again the same request is answered
    assert failure is None
    assert numbers([Message(content, dst_node_id=0, message_type="train")]) == UNDISTURBED[1:2]
