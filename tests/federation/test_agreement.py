"""A site that is started again in the midst of a run: by the recipe that it has agreed to it goes on, by no other."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from test_site_grid import APP, requests

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.engine import agreement
from fcit_plugin.engine.site import SiteClient, comparable
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.audit import AUDIT, Audit
from fcit_plugin.federation.hello import KIND, Answer, Question, hello
from fcit_plugin.federation.messages import config_of

KEYS = {"learning_rate": 2e-3, "lora_rank": 8, "fcit_stages": [["a"]], "num_processes": 1}
(ASKED, *_) = requests()


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts the site, with these keys, on this base model."""
    monkeypatch.setattr(SiteClient, "_answer", lambda self, client: Answer({}, {}))
    monkeypatch.setattr(SiteClient, "_asked", lambda self, message, context: APP(message, context))

    def started(keys=KEYS, base="abc", folder=tmp_path):
        task = SimpleNamespace(name="a", datasets=["a"])
        scenario = SimpleNamespace(tasks=[task], schedule=[[0]])
        session = SimpleNamespace(
            program=SimpleNamespace(run_id="run", num_stages=1),
            args=dataclasses.replace(FcitArguments(), fcit_num_rounds=2),
            scenario=scenario,
            trained_datasets=["a"],
            pipeline=SimpleNamespace(train=lambda name: [None] * 40),
            keys=keys,
            arguments=(),
            data={},
            base_fingerprint=base,
            base_model="a model",
            model=torch.nn.Linear(1, 1),
            output_dir=folder,
        )
        return SiteClient(session, None, None).app

    return started


def agree(app, keys=KEYS, base="abc"):
    app(KIND, hello(config_of(ASKED), Question(comparable(keys, ()), base, "float32")).content)


CHANGES = {
    "a key": ({"keys": KEYS | {"learning_rate": 1e-6}}, "`learning_rate` was 0.002 and is 1e-06"),
    "a key more": ({"keys": KEYS | {"weight_decay": 0.1}}, "`weight_decay` was None and is 0.1"),
    "a key less": ({"keys": {key: value for key, value in KEYS.items() if key != "lora_rank"}}, "`lora_rank` was 8"),
    "the base model": ({"base": "def"}, "the base model had the fingerprint abc and has def"),
    "the plugin": ({}, "fcit-plugin was of version 0.0.1"),
}


@pytest.mark.parametrize("kind", ["train", "query"])
@pytest.mark.parametrize("what", CHANGES)
def test_a_site_that_starts_again_with_another_recipe_answers_nothing_until_both_agree_again(
    what, kind, start, tmp_path, monkeypatch
):
    changes, said = CHANGES[what]
    with monkeypatch.context() as before:
        if what == "the plugin":
            before.setattr(agreement, "__version__", "0.0.1")
        agree(start())
    with pytest.raises(FcitError) as refused:
        start(**changes)(kind, ASKED.content)
    assert said in str(refused.value) and str(refused.value).endswith("and asks all sites as it starts.")
    assert Audit(tmp_path / AUDIT).trainings("run") == 0  # it costs the site none of its rounds
    if what == "the plugin":
        return
    again = start(**changes)
    agree(again, **changes)  # the server has changed, too
    assert again(kind, ASKED.content)


def test_a_site_that_starts_again_with_the_same_recipe_goes_on_and_what_is_its_own_may_change(start):
    agree(start())
    for own in ({}, {"bf16": True}, {"fcit_site_max_rounds": 3}, {"dataset": "b"}):
        assert start(keys=KEYS | own)("train", ASKED.content)


def test_a_site_that_was_never_asked_and_one_asked_by_a_dry_run_alone_train_nothing(start):
    with pytest.raises(FcitError, match="was not asked yet whether its recipe is the server's"):
        start()("train", ASKED.content)
    agree(start(), base=None)
    with pytest.raises(FcitError, match="was not asked yet"):
        start()("train", ASKED.content)


def test_who_does_not_agree_is_not_taken_for_one_that_does(start):
    app = start()
    with pytest.raises(FcitError, match="This site's recipe is not the server's"):
        agree(app, keys=KEYS | {"lora_rank": 4})
    with pytest.raises(FcitError, match="was not asked yet"):
        app("train", ASKED.content)
