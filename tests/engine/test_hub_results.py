"""``push_to_hub`` against a stand-in of the Hugging Face Hub on this machine."""

import pytest
from huggingface_hub import ModelCard
from llamafactory.hparams import get_train_args
from runs import run_recipe
from standin import hub_stand_in

from fcit_plugin.serving.publish import publish


@pytest.fixture
def server():
    with hub_stand_in() as server:
        yield server


def test_a_finished_run_is_pushed_without_what_belongs_to_clients(text_recipe, server, tmp_path):
    """What is pushed is what can be given away, file by file, and nothing beside it."""
    keys = text_recipe(
        "mine", fcit_num_rounds=1, fcit_keep_client_updates=True, push_to_hub=True, hub_token="sesame",
        hub_private_repo=True, fcit_eval_samples=2,
    )  # fmt: skip
    folder = run_recipe(keys)
    assert [(made["name"], made["visibility"]) for made in server.created] == [("mine", "private")]
    assert server.requests[0][0] == "/api/repos/create"
    assert any("/api/models/somebody/mine/commit/main" in path for path, _ in server.requests)
    publish(folder, tmp_path / "published")
    given = {str(path.relative_to(tmp_path / "published")): path for path in (tmp_path / "published").rglob("*")}
    assert server.files == {name: path.read_bytes() for name, path in given.items() if path.is_file()}
    assert (folder / "updates").is_dir() and [path for path in folder.iterdir() if path.name.startswith(".")] == []
    assert "assignments" in (folder / "fcit_report.json").read_text() and b"assign" not in server.files["fcit_report.json"]
    assert server.message == "End of training"
    assert server.checked == [server.files["README.md"].decode()]
    data = ModelCard(server.files["README.md"].decode(), ignore_metadata_errors=False).data
    assert data.pipeline_tag == "text-generation"
    assert {result.metric_type for result in data.eval_results} >= {"exact_match", "last"}


def test_a_wrong_token_shows_before_the_run_begins(text_recipe, server, tmp_path):
    keys = text_recipe("out", push_to_hub=True, hub_token="guess", hub_model_id="somebody/else")
    with pytest.raises(ValueError, match=r"`push_to_hub: true`.*somebody/else.*`hub_token`"):
        run_recipe(keys)
    assert [path for path, _ in server.requests] == ["/api/repos/create"]
    assert not (tmp_path / "out" / "fcit_manifest.json").exists()


def test_what_could_not_be_given_away_is_refused_before_the_run_begins(text_recipe, clip_model):
    with pytest.raises(ValueError, match="`fcit_bound: local` leaves nothing that could be given away; take `push_to_hub` out"):
        get_train_args(text_recipe(fcit_bound="local", push_to_hub=True))
    keys = text_recipe(fcit_identity_encoder=str(clip_model), push_to_hub=True)
    with pytest.raises(ValueError, match=rf"text encoder in {clip_model}, a folder .*; take `push_to_hub` out, or set"):
        run_recipe(keys)


@pytest.mark.parametrize("stage", ["fcit_client", "fcit_aggregate"])
def test_sites_do_not_push(text_recipe, stage):
    with pytest.raises(ValueError, match=f"`push_to_hub` belongs to `stage: fcit`.*{stage}"):
        get_train_args(text_recipe(stage=stage, push_to_hub=True))
