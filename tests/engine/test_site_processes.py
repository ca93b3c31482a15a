"""A site of two processes: what it answers is what two processes of a run in one place come to, bit by bit."""

import json
import shutil

import pytest
import tiny
from certified import Authority
from flwr.app import Message
from forked import ranks
from runs import report_of
from safetensors.torch import load_file, save_file

from fcit_plugin.deployment.keys import new_key, write_private_key
from fcit_plugin.engine import site
from fcit_plugin.engine.site import comparable, dtype_of
from fcit_plugin.federation.hello import KIND as HELLO
from fcit_plugin.federation.hello import Question, hello
from fcit_plugin.federation.in_process_grid import InProcessGrid
from fcit_plugin.federation.server import run
from fcit_plugin.federation.shared_state import scores_in, state_files, state_message
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.progress import Traffic

ALONE = {"fcit_num_clients": 1, "fcit_clients_per_round": 1, "per_device_train_batch_size": 2, "ddp_backend": "gloo"}
NATURAL = {"fcit_engine": "process", "fcit_partition": "natural", "fcit_partition_column": "site"}


class Silent:
    """Hears of every round, and says nothing."""

    def clients_asked(self, asked):
        pass

    def round_ended(self, *result):
        pass

    def reply_dropped(self, dropped):
        raise AssertionError(dropped)


def serve_in_place(folder, spoil=lambda message: message):
    """In a site's process the server is a loop in its first process: what the site answers to it is left in a folder."""

    def answer(session, identity, app, ended=lambda: False):
        def client(message, context):
            return Message(app(message.metadata.message_type, spoil(message).content), reply_to=message)

        program = session.program
        question = Question(comparable(session.keys, session.arguments), session.base_fingerprint, dtype_of(session))
        app(HELLO, hello(program.work_of(0, 0, 0, 0), question).content)
        state = run(program, session.first_state(), InProcessGrid(client, range(1)), Silent(), Traffic())
        for k, subspace in enumerate(state.subspaces):
            save_file(subspace, folder / f"{k}.safetensors")
        session.save(state, folder / "state")
        sent = state_message(program.work_of(1, 1, 0, 0), state_files(folder / "state"))
        scores = scores_in(app(sent.metadata.message_type, sent.content), "it")
        (folder / "scores.json").write_text(json.dumps({row["dataset"]: row["score"] for row in scores}))

    site.answer = answer


@pytest.fixture
def data(text_data, tmp_path):
    """The tasks, with the site's name in each record."""
    folder = shutil.copytree(text_data, tmp_path / "data")
    for path in folder.glob("*_train.json"):
        path.write_text(json.dumps([row | {"site": "it"} for row in json.loads(path.read_text())]))
    return folder


@pytest.fixture
def keys(text_model, data, tmp_path):
    ca = Authority(tmp_path / "ca").file
    write_private_key(tmp_path / "site.key", new_key())
    own = {"stage": "fcit_site", "fcit_certificate": str(ca), "fcit_site_key": str(tmp_path / "site.key")}
    own |= {"fcit_superlink": "127.0.0.1:9092", "fcit_site_eval": True, "fcit_identity_min_records": 1}
    return tiny.recipe(text_model, data, tmp_path / "site", **ALONE | own)


@pytest.mark.slow
def test_two_processes_of_a_site_train_and_answer_as_two_processes_of_a_run(keys, text_model, data, tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    ranks(["train", str(tiny.write_recipe(tmp_path / "site.yaml", keys))], 2, tmp_path, lambda: serve_in_place(made))
    said = ["training subspace" in (tmp_path / f"rank{rank}" / "stdout.txt").read_text() for rank in range(2)]
    assert said == [True, False], "the first process alone speaks"
    one_place = tiny.recipe(text_model, data, tmp_path / "out", **ALONE | NATURAL)
    (tmp_path / "run").mkdir()
    ranks(["train", str(tiny.write_recipe(tmp_path / "run.yaml", one_place))], 2, tmp_path / "run")
    expected = StateFolder(tmp_path / "out").load().subspaces
    assert len(expected) == len([*made.glob("*.safetensors")]) > 0
    for k, subspace in enumerate(expected):
        found = load_file(made / f"{k}.safetensors")
        assert {key: value.numpy().tobytes() for key, value in found.items()} == {
            key: value.numpy().tobytes() for key, value in subspace.items()
        }
    report = report_of(tmp_path / "out")
    assert [*json.loads((made / "scores.json").read_text()).values()] == report["accuracy"][-1]
    assert len((tmp_path / "site" / "audit.jsonl").read_text().splitlines()) == 10  # of each request one line
