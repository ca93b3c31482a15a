"""What a site does to its updates by itself: bounded and with noise they leave, whatever the server asks for."""

import math

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from sites import SIGNER, identity_of, site_app
from toy import BLANK, PROJECTOR, Local, noise

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.client import make_client_app
from fcit_plugin.federation.envelope import open_reply, sealed_request
from fcit_plugin.federation.messages import ARRAYS, CONFIG, METRICS, SHARED, TOKEN, ClientConfig, to_record
from fcit_plugin.federation.noise import SecretNoise
from fcit_plugin.federation.site_executor import answer_of
from fcit_plugin.federation.site_updates import SiteUpdates

APP = make_client_app(Local())
SECRET = SecretNoise(b"a" * 32, b"b" * 32)


def request(round=1, blank=BLANK, **config):
    arrays, shared = to_record(noise(5, blank)), to_record(noise(6, PROJECTOR))
    asked = ClientConfig("run", 0, round, 1, 0, 0, **config)
    return Message(RecordDict({ARRAYS: arrays, SHARED: shared, CONFIG: asked.to_record()}), dst_node_id=1, message_type="train")


def trained(message):
    return APP(message, Context(run_id=0, node_id=1, node_config={}, state=RecordDict(), run_config={}))


def change(reply, message):
    """What an update changes, all numbers in one row, float64 [n]."""
    content = reply.content if isinstance(reply, Message) else reply
    rows = [
        content[name][key].numpy().astype(np.float64) - array.numpy()
        for name in (ARRAYS, SHARED)
        for key, array in message.content[name].items()
    ]
    return np.concatenate([row.ravel() for row in rows])


@pytest.mark.parametrize("norm", [1e-3, 0.1, 1.0, 1e3])
def test_an_update_keeps_its_direction_and_its_weight_and_has_no_more_than_the_norm(norm):
    message = request()
    reply = trained(message)
    left = SiteUpdates(norm, 0.0, SECRET)(reply, message)
    before, after = change(reply, message), change(left, message)
    size = np.linalg.norm(before)
    assert np.linalg.norm(after) <= norm
    np.testing.assert_allclose(after, before * min(1, norm / size), atol=1e-6)
    if norm > size:
        assert np.array_equal(before, after)
    assert dict(left.content[METRICS]) == dict(reply.content[METRICS])
    assert left.content[TOKEN] == reply.content[TOKEN]


def test_the_noise_has_the_deviation_that_is_asked_for_and_is_that_of_one_update_alone():
    blank = {"l.lora_A.weight": torch.zeros(100, 300), "l.lora_B.weight": torch.zeros(200, 100)}
    message = request(blank=blank)
    reply, bounded = trained(message), SiteUpdates(2.0, 0.0, SECRET)
    updates = SiteUpdates(2.0, 0.5, SECRET)
    drawn = change(updates(reply, message), message) - change(bounded(reply, message), message)
    assert abs(drawn.std() - 1.0) < 5 / math.sqrt(2 * drawn.size)
    assert abs(drawn.mean()) < 5 / math.sqrt(drawn.size)
    again = change(updates(trained(message), message), message) - change(bounded(reply, message), message)
    assert np.array_equal(drawn, again)  # one that is asked for twice is released once
    reply.content[ARRAYS]["l.lora_A.weight"] = Array(reply.content[ARRAYS]["l.lora_A.weight"].numpy() + np.float32(1e-3))
    other = change(updates(reply, message), message) - change(bounded(reply, message), message)
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 5 / math.sqrt(drawn.size)
    other = change(SiteUpdates(2.0, 0.5, SecretNoise(b"c" * 32, b"b" * 32))(trained(message), message), message)
    assert not np.allclose(other, change(bounded(trained(message), message), message) + drawn)


def test_what_would_leave_beside_the_update_is_refused():
    message = request()
    reply = trained(message)
    reply.content["fisher"] = ArrayRecord({"a": Array(np.zeros(3, np.float32))})
    with pytest.raises(FcitError, match="fisher"):
        SiteUpdates(1.0, 1.0, SECRET)(reply, message)


@pytest.mark.parametrize("asked", [{}, {"round": 2}, {"wants": ("fisher",)}, {"trains": "B"}], ids=str)
def test_no_request_gets_an_update_beyond_the_sites_norm(asked, tmp_path):
    site, norm = identity_of(ec.generate_private_key(ec.SECP384R1())), 0.01
    updates = SiteUpdates(norm, 0.0, SECRET)
    app = site_app(lambda message, context: updates(APP(message, context), message), tmp_path)
    message = request(**asked)
    content, nonce = sealed_request(message.content, "train", site.encoded, SIGNER)
    answered = answer_of(app, site, Message(content, dst_node_id=7, message_type="train"))
    left, failure = open_reply(answered.content, nonce, "train", site.key.public_key())
    if failure is None:
        there = [
            left[name][key].numpy().astype(np.float64) - message.content[name][key].numpy()
            for name in (ARRAYS, SHARED)
            for key in left[name]
        ]
        assert 0 < math.sqrt(sum(float(np.square(part).sum()) for part in there)) <= norm
    else:
        assert "fisher" in failure


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"fcit_site_noise_multiplier": 1.0}, "needs `fcit_site_clipping_norm`"),
        ({"fcit_site_clipping_norm": 0.0}, "fcit_site_clipping_norm"),
        ({"fcit_site_clipping_norm": -1.0}, "fcit_site_clipping_norm"),
        ({"fcit_site_clipping_norm": 1.0, "fcit_site_noise_multiplier": 0.0}, "fcit_site_noise_multiplier"),
        ({"fcit_site_clipping_norm": 1.0, "fcit_update_compression": "bf16"}, "fcit_update_compression: bf16"),
    ],
)
def test_keys_that_cannot_work_are_refused(keys, says):
    with pytest.raises(FcitError, match=says):
        FcitArguments(fcit_site_key="site.key", **keys)
