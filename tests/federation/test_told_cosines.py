"""How near clients' instructions lie: from the reply into the state, in any order, within bounds, and never beside noise."""

import json

import pytest
from toy import Local, Toy, bits, own, start

from fcit_plugin.federation.messages import METRICS, OWN_COSINES
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.names import MANIFEST
from fcit_plugin.state.server_state import save_state

#: The toy's clients by subspace.
PLACES = {0: (0, 1), 1: (2,), 2: (3,), 3: (4, 5, 6)}


def summed(places):
    """By subspace the sums of what clients tell, who may appear several times."""
    return {k: tuple(map(sum, zip(*map(own, clients), strict=True))) for k, clients in places.items()}


def test_each_subspace_sums_what_its_clients_tell_round_after_round():
    toy = Toy()
    first = toy.round()
    assert first.own_cosines == summed(PLACES) and toy.heard.dropped == []
    second = toy.round(first)
    rows = toy.heard.rows
    trained = {k: [row["client"] for row in rows if row["subspace"] == k] for k in {row["subspace"] for row in rows}}
    assert len(rows) == 14 and second.own_cosines == summed(trained)


def test_replies_in_another_order_give_the_same_state():
    one, other = Toy(), Toy()
    send = other.grid.send_and_receive
    other.grid.send_and_receive = lambda messages, **more: list(send(list(messages), **more))[::-1]
    assert bits(one.round()) == bits(other.round())


def test_clients_of_an_earlier_version_take_part_and_tell_nothing():
    class Half(Local):
        def token(self, config):
            self.tells = config.client != 1
            return super().token(config)

    toy = Toy(local=Half())
    after = toy.round()
    assert toy.heard.dropped == []
    assert after.own_cosines == {**summed(PLACES), 0: own(0)}
    silent = Local()
    silent.tells = False
    plain = Toy(local=silent).round()
    assert plain.own_cosines == {} and plain.tokens.sums.tobytes() == after.tokens.sums.tobytes()


def test_what_is_told_weighs_no_more_than_its_clients_token():
    """The smallest count of the toy's is 10, the median 13; a client's cosines are cut to its bounded count."""
    after = Toy(fcit_max_count_ratio=1.0).round()
    cut = {c: [n * 13 // max(13, 10 + c) for n in own(c)] for c in range(7)}
    assert after.own_cosines == {
        k: tuple(map(sum, zip(*(cut[c] for c in clients), strict=True))) for k, clients in PLACES.items()
    }


NOISE = {
    "fcit_identity_noise": {"fcit_identity_noise": 0.001},
    "fcit_dp_noise_multiplier": {"fcit_dp_clipping_norm": 1.0, "fcit_dp_noise_multiplier": 0.1},
}


@pytest.mark.parametrize("keys", NOISE.values(), ids=NOISE)
def test_beside_noise_they_are_not_sent_and_not_taken(keys):
    sent = []
    toy = Toy(on_reply=lambda request, reply: sent.append(dict(reply.content[METRICS])), **keys)
    assert toy.round().own_cosines == {}
    assert sent and not any(OWN_COSINES in metrics for metrics in sent)
    local = Local()
    local.tells = True
    telling = Toy(local=local, fcit_max_round_retries=0, **keys)
    with pytest.raises(ValueError, match="reports num-examples, own-cosines, token-count"):
        telling.round()


def test_they_are_kept_with_a_state_and_one_without_them_is_read(tmp_path):
    after = Toy().round()
    save_state(after, tmp_path, {"r": 2}, {"method": "disco"})
    assert StateFolder(tmp_path).load().own_cosines == after.own_cosines
    path = tmp_path / MANIFEST
    manifest = json.loads(path.read_text())
    for entry in manifest["subspaces"]:
        del entry["own_cosines"]
    path.write_text(json.dumps(manifest))
    old = StateFolder(tmp_path).load()
    assert old.own_cosines == {} and Toy(without=(2, 3, 4, 5, 6)).round(old).own_cosines == {0: summed(PLACES)[0]}
    save_state(start(), tmp_path / "start", {"r": 2}, {"method": "disco"})
    assert StateFolder(tmp_path / "start").load().own_cosines == {}
