"""A site's own bounds and disk in secure sums, and what the server refuses of sites that lie."""

import json
import stat

import numpy as np
import pytest
from sums import BOUNDS, FIVE, KEYS, PUBLIC, Lab, after, plain_sum, refuses, request, scaled, update_of

from fcit_plugin.errors import FcitError
from fcit_plugin.federation.secure_sum.parts import Place, Update
from fcit_plugin.federation.secure_sum.site import SiteSums
from fcit_plugin.federation.secure_sum.store import FileStore
from fcit_plugin.federation.secure_sum.texts import SHARED


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda u: Update(0, u.loss, u.changes), "0 examples"),
        (lambda u: Update(1025, u.loss, u.changes), "1025 examples.*fcit_max_client_samples"),
        (lambda u: Update(u.weight, float("nan"), u.changes), "training loss is nan"),
        (lambda u: Update(u.weight, 129.0, u.changes), "training loss is 129"),
        (lambda u: Update(u.weight, u.loss, scaled(u, 10)), "norm .* over 1 .*fcit_max_update_norm"),
        (lambda u: Update(u.weight, u.loss, scaled(u, np.nan)), "norm nan"),
        (lambda u: Update(u.weight, u.loss, {"0": u.changes["0"]}), "It has trained"),
    ],
)
def test_an_update_out_of_bounds_leaves_its_site_alone(change, match):
    lab = Lab(FIVE)
    lab.update = lambda client, names: change(update_of(client, names)) if client == 1 else update_of(client, names)
    found = lab.run()
    assert {each.clients for each in found.values()} == {(0, 2, 3, 4)}
    with pytest.raises(FcitError, match=match):
        raise FcitError(lab.refused[0][2])


def test_what_a_site_keeps_is_for_nobody_else_to_read():
    lab = after()
    folder = lab.folders[0]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(files) == 6 and {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_two_processes_of_a_site_do_not_share_a_folder():
    lab = after()
    with pytest.raises(FcitError, match="Another process of this site"):
        FileStore(lab.folders[0])
    lab.stores[0].close()
    FileStore(lab.folders[0]).close()


def test_secrets_of_the_session_before_are_gone():
    lab = after()
    before = lab.stores[0].session()
    lab.update = lambda client, names: update_of(client, names, seed=4)
    lab.run(Place("run", 0, 1))
    kept = (lab.folders[0] / "session.json").read_text()
    assert not any(secret in kept for part in ("private", "masks") for secret in before[part].values())


def test_a_site_without_its_folder_sits_out_the_round():
    lab = Lab(FIVE)
    assert lab.run(Place("run", 1, 3)) == {}
    assert all("takes part from the next round on" in why for _, _, why in lab.refused)
    assert set(lab.run(Place("run", 1, 4))) == {"0", SHARED}


def test_a_damaged_file_is_no_reason_to_answer_anew():
    lab = after()
    (lab.folders[1] / "session.json").write_text('{"version": 1}')
    refuses(lab, "unmask", request(lab, "unmask"), "session.json.*takes? .*folder of secure sums away")


def with_replies(step, change, groups=FIVE):
    """A session in which client 2 answers otherwise."""
    lab = Lab(groups)
    usual = lab.answer

    def answer(kind, client, text, place=None):
        reply = usual(kind, client, text, place)
        return change(reply) if (kind, client) == (step, 2) else reply

    lab.answer = answer
    return lab, lab.run()


def test_false_shares_are_found_out_while_enough_are_right():
    def false(reply):
        values = json.loads(reply)
        values["shares"] = {name: dict.fromkeys(given, "11" * 32) for name, given in values["shares"].items()}
        return json.dumps(values)

    lab, found = with_replies("unmask", false)
    updates = [update_of(client, lab.names(client)) for client in range(5)]
    assert {name: [e.weight, *e.numbers.view(np.int32).tolist()] for name, e in found.items()} == {
        name: plain_sum(updates, name, 5) for name in ("0", SHARED)
    }
    lab = Lab({"0": [0, 1, 2]}, gone={1: "unmask"})
    usual = lab.answer
    lab.answer = lambda *at: false(usual(*at)) if at[:2] == ("unmask", 2) else usual(*at)
    assert lab.run() == {} and "do not fit together" in lab.server.reasons["0"]


def test_keys_of_another_and_signatures_over_nothing_leave_their_client_out():
    def other(reply):
        return json.dumps(json.loads(reply) | {"signature": "00" * 96})

    for step, why in (("keys", "keys are not signed"), ("agree", "not signed the survivors")):
        lab, found = with_replies(step, other)
        assert why in lab.dropped[0][2] and lab.dropped[0][:2] == (step, 2)
        assert {each.clients for each in found.values()} == {(0, 1, 3, 4) if step == "keys" else (0, 1, 2, 3, 4)}


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: {"0": arrays["0"]},
        lambda arrays: arrays | {"0": arrays["0"][:-1]},
        lambda arrays: arrays | {"0": arrays["0"].astype(np.int64)},
        lambda arrays: arrays | {"1": arrays["0"]},
    ],
)
def test_masked_updates_of_another_form_leave_their_client_out(change):
    lab, found = with_replies("train", change)
    assert {each.clients for each in found.values()} == {(0, 1, 3, 4)}
    assert "not of the form" in lab.dropped[0][2]


class Loose(SiteSums):
    """A site that does not look at what it has trained."""

    def _check_update(self, session, update):
        session["updates"] = dict.fromkeys(update.changes, "00" * 32)
        self._store.keep(session)


@pytest.mark.parametrize(("by", "opens"), [(1, True), (3, True), (12, False)])
def test_a_client_that_keeps_to_no_bound_moves_a_mean_or_the_sum_is_lost(by, opens):
    lab = Lab(FIVE)
    lab.sites[2] = Loose(2, KEYS[2], PUBLIC, BOUNDS, lab.stores[2])

    def update(client, names):
        honest = update_of(client, names)
        return Update(1024, honest.loss, scaled(honest, by)) if client == 2 else honest

    lab.update = update
    found = lab.run()
    if opens:
        moved = [float(np.linalg.norm(each.mean)) for each in found.values()]
        assert len(moved) == 2 and all(norm <= 1.001 * BOUNDS.largest for norm in moved)
    else:
        assert "0" not in found and "not kept to them" in lab.server.reasons["0"]
