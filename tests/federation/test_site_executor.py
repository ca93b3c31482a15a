"""A site's side: what it answers to whom, and its SuperNode, which lives and dies with it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message, MessageType, RecordDict
from sites import site_app
from test_site_grid import APP, UNDISTURBED, numbers, requests

from fcit_plugin.federation.envelope import open_reply, sealed_request
from fcit_plugin.federation.site_executor import SuperNode, answer_of

KEY = ec.generate_private_key(ec.SECP384R1())


def wait_until(true, seconds=10.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def sent(request, kind=MessageType.TRAIN):
    content, nonce = sealed_request(request.content)
    return Message(content, dst_node_id=77, message_type=kind), nonce


def test_a_site_that_is_asked_twice_trains_once_and_signs_both_times(tmp_path):
    trained = []

    def app(message, context):
        trained.append(message.metadata.dst_node_id)
        return APP(message, context)

    for _ in range(2):
        message, nonce = sent(requests()[1])
        content, failure = open_reply(
            answer_of(site_app(app, tmp_path), KEY, message).content, nonce, "train", KEY.public_key()
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
    _, failure = open_reply(answer_of(site_app(app, tmp_path), KEY, message).content, nonce, "train", KEY.public_key())
    assert str(error.args[-1]) in failure


def test_what_is_no_request_of_the_plugin_is_refused_unread(tmp_path):
    def app(message, context):
        raise AssertionError

    bare = answer_of(site_app(app, tmp_path), KEY, Message(requests()[0].content, dst_node_id=7, message_type="train"))
    assert bare.error.reason == "it has no envelope"
    message, nonce = sent(requests()[0], "evaluate")
    _, failure = open_reply(answer_of(site_app(app, tmp_path), KEY, message).content, nonce, "evaluate", KEY.public_key())
    assert failure == "A site answers no messages of the type evaluate."
    message, nonce = sent(Message(RecordDict(), dst_node_id=7, message_type="train"))
    _, failure = open_reply(answer_of(site_app(app, tmp_path), KEY, message).content, nonce, "train", KEY.public_key())
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
