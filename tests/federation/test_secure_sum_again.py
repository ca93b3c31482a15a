"""Steps of a secure sum that are asked again: the same answer, or none; and one update goes into one opened sum."""

import json

import numpy as np
import pytest
from sums import FIVE, Lab, after, changed, plain_sum, refuses, request, update_of

from fcit_plugin.federation.secure_sum.parts import Place, Update
from fcit_plugin.federation.secure_sum.texts import SHARED, STEPS


def test_every_step_asked_again_has_the_same_answer_also_after_a_restart():
    lab = after()
    for restarted in (False, True):
        if restarted:
            lab.sites[1] = lab.site(1)
        for step in STEPS:
            before, again = lab.replies[step][1], lab.answer(step, 1, request(lab, step))
            if step == "train":
                assert {name: part.tobytes() for name, part in before.items()} == {n: p.tobytes() for n, p in again.items()}
            else:
                assert again == before


@pytest.mark.parametrize("step", STEPS)
def test_another_request_in_the_place_of_one_that_was_answered_is_refused(step):
    lab = after()
    text = json.loads(request(lab, step))
    others = {
        "keys": {"sums": ["1", SHARED]},
        "shares": {"rosters": {"0": [0, 1, 2, 3], SHARED: [0, 1, 2, 3, 4]}},
        "train": {"sealed": {c: text["sealed"][c] for c in list(text.get("sealed", ""))[:2]}},
        "agree": {"survivors": [0, 1, 2]},
        "unmask": {"survivors": [0, 1, 2, 3]},
    }
    refuses(
        lab, step, changed(request(lab, step), **others[step]), f"The step `{step}` of this session was answered to another"
    )


def test_other_weights_in_the_same_session_are_refused():
    lab = after()
    lab.sent[1] = dict.fromkeys(lab.sent[1], b"other weights")
    refuses(lab, "train", request(lab, "train"), "step `train` of this session was answered to another")


def test_training_that_gives_other_numbers_than_before_is_not_masked():
    lab = after()
    lab.update = lambda client, names: update_of(client, names, seed=4)
    refuses(lab, "train", request(lab, "train"), "one mask must not hide two updates")


def test_a_second_attempt_after_the_unmasking_is_refused_and_the_next_round_goes_on():
    lab = after()
    refuses(lab, "keys", changed(request(lab, "keys"), attempt=1), "A sum over this update was opened before")
    refuses(lab, "keys", changed(request(lab, "keys"), launch="cd" * 32), "A sum over this update was opened before")
    lab.update = lambda client, names: update_of(client, names, seed=4)
    assert set(lab.run(Place("run", 0, 1))) == {"0", SHARED}


@pytest.mark.parametrize("place", [Place("another run", 0, 0), Place("run", 0, 1), Place("run", 3, 0)])
@pytest.mark.parametrize("groups", [FIVE, {"7": [0, 1, 2, 3]}])
def test_the_same_update_in_another_run_or_round_opens_no_second_sum(place, groups):
    lab = after()
    lab.groups = groups | {SHARED: groups[next(iter(groups))]}
    lab.clients = sorted(lab.groups[SHARED])
    lab.sent = {client: dict.fromkeys(lab.groups, b"weights") for client in lab.clients}
    assert lab.run(place) == {}
    assert [(step, client) for step, client, _ in lab.refused] == [("train", client) for client in lab.clients]
    assert all("was opened before" in why for _, _, why in lab.refused)


def test_updates_that_are_nothing_may_be_nothing_again():
    lab = Lab(FIVE)

    def nothing(client, names):
        update = update_of(client, names)
        changes = {name: {key: np.zeros_like(x) for key, x in part.items()} for name, part in update.changes.items()}
        return Update(update.weight, update.loss, changes)

    lab.update = nothing
    for round in range(2):
        assert set(lab.run(Place("run", 0, round))) == {"0", SHARED}


def test_an_attempt_that_was_lost_before_its_unmasking_is_followed_by_one_with_other_masks():
    lab = Lab(FIVE, gone=dict.fromkeys(range(5), "unmask"))
    assert lab.run() == {}
    first, late = lab.replies["train"][1], request(lab, "agree")
    lab.gone = {}
    found = lab.run(attempt=1)
    updates = [update_of(client, lab.names(client)) for client in range(5)]
    for name, each in found.items():
        assert [each.weight, *each.numbers.view(np.int32).tolist()] == plain_sum(updates, name, 5)
        difference = lab.replies["train"][1][name] - first[name]  # of two that hide the same numbers
        assert len(set(difference.tolist())) == len(difference)
    refuses(lab, "agree", late, "It has no keys of this session")
    refuses(lab, "keys", changed(request(lab, "keys"), attempt=0), "opened before")


def test_a_session_that_is_over_does_not_come_back():
    """It would have other keys under the same name, and what was signed in it before would count again."""
    lab = Lab(FIVE, gone=dict.fromkeys(range(5), "agree"))
    lab.run(attempt=1)
    first = request(lab, "keys")
    lab.answer("keys", 1, first)  # still the same one
    lab.run(attempt=2, launch="cd" * 32)
    refuses(lab, "keys", first, "This session is over")
    assert lab.answer("keys", 1, request(lab, "keys")) == lab.replies["keys"][1]
