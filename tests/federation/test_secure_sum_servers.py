"""What sites refuse in secure sums, whatever a server that lies asks."""

import json

import pytest
from sums import BOUNDS, FIVE, KEYS, Lab, after, changed, refuses

from fcit_plugin.errors import FcitError
from fcit_plugin.federation.secure_sum.masks import new_private, public_of
from fcit_plugin.federation.secure_sum.statements import keys_statement, signed
from fcit_plugin.federation.secure_sum.texts import SHARED


def lying(step, change, groups=FIVE, **kept):
    """A session whose requests of a step are changed on their way: values -> what is other in them."""

    def lie(kind, client, text):
        return changed(text, **change(client, json.loads(text))) if kind == step else text

    lab = Lab(groups, change=lie, **kept)
    return lab, lab.run()


EVIL = new_private()


def swapped(client, text):
    keys = text["keys"]
    keys["3"]["sums"]["0"] = public_of(EVIL).hex()
    return {"keys": keys}


def invented(client, text):
    keys = text["keys"] | {"99": {"seal": public_of(EVIL).hex(), "sums": {"0": public_of(EVIL).hex(), SHARED: "00" * 32}}}
    statement = keys_statement("x", 99, public_of(EVIL).hex(), keys["99"]["sums"])
    keys["99"]["signature"] = signed(KEYS[11], statement)
    rosters = {name: [*roster, 99] for name, roster in text["rosters"].items()}
    return {"keys": keys, "rosters": rosters}


def of_two(client, text):
    return {"rosters": text["rosters"] | {"0": sorted({client, (client + 1) % 5})}}


def without_it(client, text):
    return {"rosters": text["rosters"] | {"0": [each for each in range(5) if each != client]}}


def twice(client, text):
    return {"rosters": text["rosters"] | {"0": [0, 0, 1, 2, 3, 4]}}


def of_others(client, text):
    return {"rosters": {"0": text["rosters"]["0"]}}


def its_own(client, text):
    keys = text["keys"]
    private = {"0": public_of(EVIL).hex(), SHARED: public_of(EVIL).hex()}
    keys[str(client)] = {"seal": public_of(EVIL).hex(), "sums": private, "signature": keys[str(client)]["signature"]}
    return {"keys": keys}


def old_keys(client, text):
    """Signed by the right site, in another session."""
    keys = text["keys"]
    public = {name: public_of(EVIL).hex() for name in keys["2"]["sums"]}
    statement = keys_statement("another session", 2, keys["2"]["seal"], public)
    keys["2"] |= {"sums": public, "signature": signed(KEYS[2], statement)}
    return {"keys": keys}


@pytest.mark.parametrize(
    ("lie", "match"),
    [
        (swapped, "keys of client 3 are not signed"),
        (invented, "keys of client 99 are not signed"),
        (old_keys, "keys of client 2 are not signed"),
        (its_own, "are not signed"),
        (of_two, "2 of at least 3 clients are in the sum of subspace 0"),
        (without_it, "roster of the sum of subspace 0 is not sound"),
        (twice, "roster of the sum of subspace 0 is not sound"),
        (of_others, r"rosters are of the sums \['0'\]"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_roster_that_is_not_sound_is_refused_by_every_site(lie, match):
    lab, found = lying("shares", lie)
    assert found == {}
    assert [(step, client) for step, client, _ in lab.refused] == [("shares", client) for client in range(5)]
    with pytest.raises(FcitError, match=match):
        raise FcitError(lab.refused[0][2])


@pytest.mark.parametrize("sums", [["0", "1"], [SHARED], ["0", "0"]])
def test_sums_that_are_not_one_of_a_subspace_and_one_over_all_are_refused(sums):
    lab, found = lying("keys", lambda client, text: {"sums": sums})
    assert found == {} and len(lab.refused) == 5


def test_shares_that_were_changed_are_refused():
    def change(client, text):
        return {
            "sealed": {peer: sealed[:-2] + ("00" if sealed[-2:] != "00" else "01") for peer, sealed in text["sealed"].items()}
        }

    lab, found = lying("train", change)
    assert found == {} and not lab.trained
    assert all("share of client" in why and "was changed on its way" in why for _, _, why in lab.refused)


def test_shares_for_another_client_are_refused():
    lab = Lab(FIVE)
    lab.gone = dict.fromkeys(range(5), "train")
    lab.run()
    texts = {client: json.loads(lab.server.ask_train(client)) for client in (1, 2)}
    texts[1]["sealed"]["3"] = texts[2]["sealed"]["3"]
    refuses(lab, "train", json.dumps(texts[1]), "share of client 3 is not usable")


def test_too_few_that_are_left_train_nothing():
    lab, found = lying("train", lambda client, text: {"sealed": dict(list(text["sealed"].items())[:1])})
    assert found == {} and not lab.trained
    assert all("2 of at least 3 clients are left" in why for _, _, why in lab.refused)


def told_apart(client, text):
    return {"survivors": [0, 3, 4] if client == 0 else sorted({0, 1, 2, client})}


@pytest.mark.parametrize("steps", [("agree", "unmask"), ("agree",), ("unmask",)])
def test_different_survivors_told_to_different_clients_open_nothing(steps):
    def lie(kind, client, text):
        return changed(text, **told_apart(client, json.loads(text))) if kind in steps else text

    assert Lab(FIVE, change=lie).run() == {}


def test_survivors_told_apart_with_the_signatures_that_are_there_open_nothing():
    """The attack that makes `agree` worth an exchange: each of two halves is told that the other half is gone."""
    bounds = BOUNDS
    six = {"0": [0, 1, 2, 3, 4, 5]}
    halves = {client: [0, 1, 2] if client < 3 else [3, 4, 5] for client in range(6)}

    def lie(kind, client, text):
        return changed(text, survivors=halves[client]) if kind in ("agree", "unmask") else text

    lab = Lab(six, change=lie, bounds=bounds)
    assert lab.run() == {}
    assert all("No sum has enough survivors" in why for step, _, why in lab.refused if step == "agree")


@pytest.mark.parametrize(
    ("survivors", "match"),
    [
        ([0, 1, 2, 9], "not of those that it has shares of"),
        ([2, 1, 0], "not of those that it has shares of"),
        ([0, 2, 3], "It is not among the survivors"),
        ([1, 2], "No sum has enough survivors"),
    ],
)
def test_survivors_that_are_not_sound_are_not_signed(survivors, match):
    lab = Lab(FIVE, gone=dict.fromkeys(range(5), "agree"))
    lab.run()
    refuses(lab, "agree", changed(lab.server.ask_agree(1), survivors=survivors), match)


def test_shares_are_given_to_enough_signatures_alone():
    for signatures in (2, 3):
        _, found = lying(
            "unmask", lambda client, text, most=signatures: {"signatures": dict(list(text["signatures"].items())[:most])}
        )
        assert bool(found) == (signatures == 3)


def test_a_signature_of_another_client_or_list_counts_for_nothing():
    def forged(client, text):
        own = text["signatures"]
        return {"signatures": {peer: own["0"] if peer != "0" else own["1"] for peer in own}}

    lab, found = lying("unmask", forged)
    assert found == {} and all("signatures over these survivors" in why for _, _, why in lab.refused)


def test_other_weights_to_one_client_leave_masks_that_do_not_cancel():
    lab = Lab(FIVE)
    lab.sent[2] = {"0": b"other weights", SHARED: b"other weights"}
    asked = lab.sent
    assert lab.run() == {}
    assert "not kept to them" in lab.server.reasons["0"]
    assert asked is lab.sent


def test_other_weights_to_one_subspace_leave_the_projectors_masks():
    lab = Lab({"0": [0, 1, 2], "1": [3, 4, 5]})
    for client in (0, 1, 2):
        lab.sent[client][SHARED] = b"another projector"
    assert set(lab.run()) == {"0", "1"}


def test_the_lone_survivor_of_a_subspace_gives_no_share_of_it():
    lab = Lab({"0": [0, 1, 2, 3, 4], "1": [5, 6, 7]}, gone={6: "train", 7: "train"})
    found = lab.run()
    assert {name: each.clients for name, each in found.items()} == {"0": (0, 1, 2, 3, 4), SHARED: (0, 1, 2, 3, 4, 5)}
    assert set(json.loads(lab.replies["unmask"][5])["shares"]) == {SHARED}


def test_each_sum_has_secrets_of_its_own():
    lab = after()
    sessions = [store.session() for store in lab.stores.values()]
    secrets = [value for each in sessions for part in ("private", "masks") for value in each[part].values()]
    secrets += [each["seal"] for each in sessions]
    assert len(secrets) == len(set(secrets)) == 5 * 5
