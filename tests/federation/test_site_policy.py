"""What a site refuses, whoever asks, and what it writes down."""

import contextlib
import json

import pytest
from flwr.app import ConfigRecord, MessageType, RecordDict
from sites import site_app
from test_site_grid import APP, requests
from toy import BLANK, noise

from fcit_plugin.errors import FcitError
from fcit_plugin.federation.audit import Audit
from fcit_plugin.federation.messages import ARRAYS, CONFIG, ClientConfig, to_record

GOOD = {"run": "run", "stage": 0, "round": 1, "client": 0, "task": 0}


def asked(**changes):
    return ClientConfig(**GOOD | changes)


#: What is asked for, what the site's recipe has, and what is said.
REFUSED = {
    "another run": ({"run": "other"}, {}, "another run"),
    "a stage that there is not": ({"stage": 2}, {}, "Stage 2, round 1 is none of this site's recipe"),
    "a stage before the first": ({"stage": -1}, {}, "Stage -1"),
    "too many rounds": ({"round": 3}, {}, "round 3 is none"),
    "a round before the first": ({"round": -1}, {}, "round -1"),
    "a task of another stage": ({"task": 1}, {}, "Stage 0 of this site's recipe has no task 1"),
    "a task that there is not": ({"task": 9}, {}, "has no task 9"),
    "a task that the site takes no part in": ({"stage": 1, "task": 1}, {"records": {0: 40}}, "no part in task sum"),
    "a task of too many records": ({}, {"max_records": 39}, "40 records of task last, and trains on no more than 39"),
    "compression": ({"compression": "int8"}, {}, "fcit_update_compression"),
    "no compression": ({}, {"compression": "bf16"}, "fcit_update_compression"),
}


@pytest.mark.parametrize("kind", [MessageType.QUERY, MessageType.TRAIN])
@pytest.mark.parametrize("name", REFUSED)
def test_what_the_recipe_does_not_allow_is_refused(name, kind, tmp_path):
    changes, own, said = REFUSED[name]
    content = RecordDict({**requests()[0].content, CONFIG: asked(**changes).to_record()})
    with pytest.raises(FcitError) as raised:
        site_app(never, tmp_path, **own)(kind, content)
    assert said in str(raised.value)


def never(message, context):
    raise AssertionError("It was asked for what its site does not allow.")


def training(round, weights=5, stage=0, task=0):
    """A request to train, with weights drawn from a seed."""
    config = ClientConfig("run", stage, round, 0, task, 0).to_record()
    return RecordDict({ARRAYS: to_record(noise(weights, BLANK)), CONFIG: config})


#: What a server asks for after a site that allows two trainings has made them in rounds 0 and 1.
TOO_MUCH = {
    "the next round": training(2),
    "a round again with other weights": training(1, weights=6),
    "the first round again with other weights": training(0, weights=6),
    "another stage": training(0, stage=1, task=1),
}


@pytest.mark.parametrize("name", TOO_MUCH)
@pytest.mark.parametrize("restarts", [False, True])
def test_the_bound_on_rounds_is_one_on_trainings_whatever_the_server_calls_them(name, restarts, tmp_path):
    made, trained = [], []

    def app(message, context):
        trained.append(message)
        return APP(message, context)

    def ask(content):
        if restarts or not made:
            made[:] = [site_app(app, tmp_path, max_rounds=2)]
        return made[0]("train", content)

    ask(training(0))
    ask(training(1))
    ask(training(1))  # again: it is answered as before, and that counts for nothing
    with pytest.raises(FcitError, match=r"trained 2 times in this run, and .* no more than 2 times \(`fcit_site_max_rounds`\)"):
        ask(TOO_MUCH[name])
    ask(training(0 if name != "the first round again with other weights" else 1))  # what is kept is still answered
    assert len(trained) == 2


@pytest.mark.parametrize("restarts", [False, True])
def test_a_training_that_fails_counts_too(restarts, tmp_path):
    def fails(message, context):
        raise ValueError("at the last step")

    app = site_app(fails, tmp_path, max_rounds=2)
    for weights, said in ((5, "at the last step"), (6, "at the last step"), (7, "fcit_site_max_rounds")):
        with pytest.raises((ValueError, FcitError), match=said):
            app("train", training(0, weights))
        app = site_app(fails, tmp_path, max_rounds=2) if restarts else app


def test_each_request_is_a_line_that_says_whether_it_was_trained_for(tmp_path):
    def train(round):
        return site_app(APP, tmp_path, max_rounds=2)("train", training(round))

    train(0)
    train(1)
    train(0)
    with pytest.raises(FcitError):
        train(2)
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(line["round"], line["refused"] is None) for line in lines] == [(0, True), (1, True), (0, True), (2, False)]
    assert [line.get("trained", False) for line in lines] == [True, True, False, False]
    assert all(line["task"] == "last" and line["run"] == "run" for line in lines)
    assert lines[0]["bytes"] > 0
    status = Audit(tmp_path / "audit.jsonl").status()
    assert status[0].startswith("train: 4 asked, 1 refused")
    assert "Trained last: stage 0 round 0, last" in status[1]
    assert "fcit_site_max_rounds" in status[2]


HOSTILE = {
    "no configuration": (RecordDict(), "no configuration"),
    "another type": (RecordDict({CONFIG: ConfigRecord({**GOOD, "stage": "0"})}), "no configuration"),
    "a name of lines": (RecordDict({CONFIG: ConfigRecord({**GOOD, "run": "a\nb\0" * 100})}), "another run"),
    "an empty training": (RecordDict({CONFIG: ConfigRecord(GOOD)}), ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_is_asked_is_one_line_that_can_be_read_again(name, tmp_path):
    content, said = HOSTILE[name]
    app = site_app(APP, tmp_path)
    with pytest.raises((FcitError, KeyError)) as raised:
        app("train", content)
    assert said in str(raised.value)
    with pytest.raises(FcitError, match="answers no messages of the type"):
        app("evaluate\n" * 1000, requests()[0].content)
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 2
    assert Audit(tmp_path / "audit.jsonl").trainings("run") == (name == "an empty training")
    assert "1 refused" in Audit(tmp_path / "audit.jsonl").status()[0]


def test_a_site_keeps_the_number_that_it_was_given_first_also_after_a_restart(tmp_path):
    def ask(client):
        config = ClientConfig("run", 0, 0, client, 0, 0).to_record()
        return site_app(APP, tmp_path)("train", RecordDict({**requests()[0].content, CONFIG: config}))

    ask(1)
    ask(1)
    with pytest.raises(FcitError, match="number 1 of its run, and not 2"):
        ask(2)


@pytest.mark.parametrize("changes", [{"stage": 2**62}, {"round": -(2**62)}, {"task": 2**62}, {"client": 2**62}])
def test_numbers_that_nobody_could_read_again_are_not_written_down(changes, tmp_path):
    content = RecordDict({**requests()[0].content, CONFIG: ClientConfig(**{**GOOD, "subspace": 0, **changes}).to_record()})
    with contextlib.suppress(FcitError, KeyError):
        site_app(APP, tmp_path)("train", content)
    assert len(Audit(tmp_path / "audit.jsonl").status()) >= 1


def test_a_long_refusal_is_cut_off(tmp_path):
    content = RecordDict({**requests()[0].content, CONFIG: ClientConfig(**GOOD).to_record()})

    def fails(message, context):
        raise ValueError("x" * 100_000)

    with pytest.raises(ValueError, match="xxx"):
        site_app(fails, tmp_path)("train", content)
    assert len(Audit(tmp_path / "audit.jsonl").status()[-1]) < 2000
