"""A server that starts again: who is away counts with what it told before, and the list of sites goes on."""

from types import SimpleNamespace

import pytest
import torch
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode

from fcit_plugin.engine.site import check_question, comparable
from fcit_plugin.engine.sites import ask_all, sites_before
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.hello import Answer, Question, TaskOfSite, answer_records
from fcit_plugin.federation.messages import ClientConfig
from fcit_plugin.federation.site_grid import AWAY
from fcit_plugin.state.progress import Progress

TOLD = {name: Answer({"a": TaskOfSite({"x": count}, 3)}, {}) for name, count in (("north", 40), ("south", 60))}


def session_in(folder, **keys):
    program = SimpleNamespace(work_of=lambda stage, round, client, task: ClientConfig("r", stage, round, client, task))
    model = torch.nn.Linear(1, 1)
    return SimpleNamespace(keys=keys, arguments=(), base_fingerprint="abc", model=model, program=program, output_dir=folder)


def sites_that_give(given):
    """Sites that answer, or give an error: a code and why."""

    def send_and_receive(requests):
        for request in requests:
            answer = given[names[request.metadata.dst_node_id]]
            told = answer_records(answer) if isinstance(answer, Answer) else Error(*answer)
            yield Message(told, reply_to=request)

    names = [*given]
    grid = SimpleNamespace(send_and_receive=send_and_receive)
    sites = {number: SimpleNamespace(name=name) for number, name in enumerate(names)}
    return SimpleNamespace(names=names, sites=sites, grid=lambda cache: grid)


GONE = (AWAY, "site south was away for more than 5 s")


def test_a_site_that_is_away_as_the_server_starts_again_counts_with_what_it_told_before(tmp_path):
    assert ask_all(session_in(tmp_path), sites_that_give(TOLD)) == [*TOLD.values()]
    newer = Answer({"a": TaskOfSite({"x": 41}, 3)}, {})
    again = sites_that_give({"north": newer, "south": GONE})
    assert ask_all(session_in(tmp_path), again) == [newer, TOLD["south"]]
    assert ask_all(session_in(tmp_path), sites_that_give(dict.fromkeys(TOLD, GONE))) == [newer, TOLD["south"]]


REFUSED = (ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "This site's recipe is not the server's")


@pytest.mark.parametrize("case", ["a first start", "another question", "a refusal", "another site"])
def test_nothing_else_lets_a_run_start_without_a_site(case, tmp_path):
    if case != "a first start":
        ask_all(session_in(tmp_path), sites_that_give(TOLD))
    session = session_in(tmp_path, **({"lora_rank": 4} if case == "another question" else {}))
    name = "west" if case == "another site" else "south"
    with pytest.raises(FcitError, match=rf"not all sites can take part\. {name}: "):
        ask_all(session, sites_that_give({"north": TOLD["north"], name: REFUSED if case == "a refusal" else GONE}))


@pytest.mark.parametrize("way", ["started again", "from a finished run"])
def test_the_list_of_sites_goes_on_from_that_of_the_run_before(way, tmp_path, monkeypatch):
    progress = Progress(sites=["north", "south"], site_lists=[["north"], ["north", "south"]])
    args = SimpleNamespace(fcit_dp_noise_multiplier=None, fcit_server_rule="mean")
    session = SimpleNamespace(start=None, earlier=None, args=args)
    if way == "started again":
        read = {tmp_path: SimpleNamespace(progress=lambda: progress)}
        monkeypatch.setattr("fcit_plugin.engine.sites.StateFolder", read.__getitem__)
        session.start = SimpleNamespace(folder=tmp_path)
    else:
        session.earlier = SimpleNamespace(progress=progress)
    assert sites_before(session, ["north", "south", "west"]) == {0: 1, 1: 2}
    for names in (["south", "north"], ["north"], ["west", "north", "south"]):
        with pytest.raises(FcitError, match="the list only grows"):
            sites_before(session, names)
    args.fcit_server_rule = "scaffold"
    with pytest.raises(FcitError, match="grown to 3 sites"):
        sites_before(session, ["north", "south", "west"])


def test_a_dry_run_is_another_recipe_where_it_differs_and_not_where_nothing_is_settled_yet(tmp_path):
    site = session_in(tmp_path, fcit_similarity_threshold=0.9, use_cpu=False, lora_rank=4)
    server = comparable({"fcit_similarity_threshold": "auto", "use_cpu": True, "lora_rank": 4}, ())
    check_question(Question(server, None, ""), site)
    with pytest.raises(FcitError, match="`fcit_identity_turns` is 'auto' at the server"):
        check_question(
            Question({**server, "fcit_identity_turns": "auto"}, None, ""),
            session_in(tmp_path, **site.keys, fcit_identity_turns="latest"),
        )
    with pytest.raises(FcitError, match="`lora_rank` is 8 at the server and 4 at this site"):
        check_question(Question({**server, "lora_rank": 8}, None, ""), site)
    with pytest.raises(FcitError, match=r"`fcit_similarity_threshold` is .auto. at the server and 0\.9 at this site"):
        check_question(Question(server, "abc", "float32"), site)
