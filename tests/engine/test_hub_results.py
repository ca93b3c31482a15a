"""``push_to_hub`` against a stand-in of the Hugging Face Hub on this machine."""

import pytest
from huggingface_hub import ModelCard
from llamafactory.hparams import get_train_args
from runs import run_recipe
from standin import hub_stand_in


@pytest.fixture
def server():
    with hub_stand_in() as server:
        yield server


def test_a_finished_run_is_pushed_without_what_belongs_to_clients(text_recipe, server):
    keys = text_recipe(
        "mine", fcit_num_rounds=1, fcit_keep_client_updates=True, push_to_hub=True, hub_token="sesame",
        hub_private_repo=True, fcit_eval_samples=2,
    )  # fmt: skip
    folder = run_recipe(keys)
    assert [(made["name"], made["visibility"]) for made in server.created] == [("mine", "private")]
    assert server.requests[0][0] == "/api/repos/create"
    assert any("/api/models/somebody/mine/commit/main" in path for path, _ in server.requests)
    expected = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in ("updates", "checkpoints")
    }
    assert (folder / "updates").is_dir()
    assert server.files.keys() == expected
    assert {"README.md", "fcit_manifest.json", "subspaces/0/adapter_model.safetensors"} <= expected
    assert all((folder / name).read_bytes() == data for name, data in server.files.items())
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


@pytest.mark.parametrize("stage", ["fcit_client", "fcit_aggregate"])
def test_sites_do_not_push(text_recipe, stage):
    with pytest.raises(ValueError, match=f"`push_to_hub` belongs to `stage: fcit`.*{stage}"):
        get_train_args(text_recipe(stage=stage, push_to_hub=True))
