"""Federation by folders: the same rounds, carried as files, end in the same bits."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from runs import weight_bytes
from safetensors.numpy import load_file

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.continual.methods import make_method
from fcit_plugin.engine import stages
from fcit_plugin.errors import FcitError
from fcit_plugin.plugins import registry
from fcit_plugin.samples.text import write_text_tasks
from fcit_plugin.scenario.sampling import sample_clients
from fcit_plugin.scenario.settings import get_scenario
from fcit_plugin.shipped import shipped


class Carrier:
    """Runs rounds through ``fcit_client`` and ``fcit_aggregate`` as people who carry folders would."""

    def __init__(self, run, keys, root: Path):
        self.run, self.root = run, root
        self.keys = {k: v for k, v in keys.items() if k not in ("stage", "output_dir")}
        self.state = self.stage("fcit_aggregate", "state0")

    def stage(self, stage, name, **changes):
        return self.run({**self.keys, "stage": stage, "output_dir": str(self.root / name), **changes})

    def update(self, client, name):
        """A site's recipe names no stages: the state does."""
        known = {key: value for key, value in self.keys.items() if key not in ("fcit_setting", "fcit_stages", "fcit_schedule")}
        at = {"stage": "fcit_client", "output_dir": str(self.root / name), "fcit_state_dir": str(self.state)}
        return self.run({**known, **at, "fcit_client": client})

    def round(self, number, stage, round):
        clients = sample_clients(3, 2, seed=42, stage=stage, round=round)
        updates = [self.update(client, f"round{number}_client{client}") for client in clients]
        self.state = self.stage(
            "fcit_aggregate",
            f"state{number + 1}",
            fcit_state_dir=str(self.state),
            fcit_update_dirs=",".join(str(update) for update in reversed(updates)),
        )


SCENARIOS = {
    "two rounds of one stage": {"fcit_stages": [["color"]], "fcit_num_rounds": 2},
    "two stages of one round": {"fcit_num_rounds": 1},
    "two tasks at once": {"fcit_num_rounds": 1, "fcit_schedule": [[0, 1], [1, 0]]},
    "fedavg": {"fcit_num_rounds": 1, "fcit_method": "sequential"},
    "one schedule for a stage": {"fcit_stages": [["color"]], "fcit_num_rounds": 2, "fcit_schedule_over": "stage"},
    "signs": {"fcit_stages": [["color"]], "fcit_num_rounds": 2, "fcit_identity_form": "signs_64"},
    "signs of kinds": {"fcit_num_rounds": 1, "fcit_method": "disco_plus", "fcit_identity_form": "signs_128"},
    "rotate": {"fcit_stages": [["color"]], "fcit_num_rounds": 2, "fcit_lora_aggregation": "rotate"},
    "exact": {
        **{"fcit_stages": [["color"]], "fcit_num_rounds": 2, "fcit_method": "sequential"},
        "fcit_lora_aggregation": "exact",
    },
    "stack": {
        **{"fcit_stages": [["color"]], "fcit_num_rounds": 2, "fcit_method": "sequential"},
        "fcit_lora_aggregation": "stack",
    },
    "nearest in later rounds": {
        **{"fcit_stages": [["color"]], "fcit_num_rounds": 2, "fcit_similarity_threshold": 0.9999999},
        "fcit_later_rounds": "nearest",
    },
    "open in later rounds": {"fcit_stages": [["color"]], "fcit_num_rounds": 2, "fcit_similarity_threshold": 0.9999999},
    "refactor": {"fcit_stages": [["color"]], "fcit_num_rounds": 2, "fcit_lora_aggregation": "refactor"},
    "svd": {"fcit_stages": [["color"]], "fcit_num_rounds": 2, "fcit_lora_aggregation": "svd"},
}


def equal_runs(recipe, run, tmp_path, **changes):
    keys = recipe("whole", fcit_eval_every="never", fcit_keep_client_updates=True, **changes)
    whole = run(keys)
    carrier = Carrier(run, {k: v for k, v in keys.items() if k != "fcit_keep_client_updates"}, tmp_path)
    num_stages = get_scenario("custom", keys["fcit_stages"], keys.get("fcit_schedule")).num_stages
    rounds = [(stage, round) for stage in range(num_stages) for round in range(keys["fcit_num_rounds"])]
    assert len(rounds) == 2
    for number, (stage, round) in enumerate(rounds):
        carrier.round(number, stage, round)
    for path in (whole / "updates").iterdir():
        stage, round, client = (int("".join(filter(str.isdigit, part))) for part in path.name.split("_"))
        carried = tmp_path / f"round{rounds.index((stage, round))}_client{client}"
        assert weight_bytes(carried) == weight_bytes(path), path.name
    by_loop = {name: data for name, data in weight_bytes(whole).items() if not name.startswith(("updates", "checkpoints"))}
    assert weight_bytes(carrier.state) == by_loop
    manifests = [json.loads((folder / "fcit_manifest.json").read_text()) for folder in (whole, carrier.state)]
    assert manifests[0] == manifests[1]
    return by_loop


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_rounds_by_files_equal_two_rounds_of_the_loop_bit_for_bit(text_recipe, run, tmp_path, name):
    found = equal_runs(text_recipe, run, tmp_path, **SCENARIOS[name])
    subspaces = [path for path in found if path.startswith("subspaces")]
    several = {"two stages of one round": 2, "two tasks at once": 2, "signs of kinds": 2}
    several |= {"nearest in later rounds": 2, "open in later rounds": 3}  # two of three clients begin, each a kind of its own
    assert len(subspaces) == several.get(name, 1)


def test_two_rounds_by_files_with_images_and_a_trained_projector(llava_recipe, run, tmp_path):
    found = equal_runs(llava_recipe, run, tmp_path, fcit_num_rounds=1, freeze_multi_modal_projector=False)
    assert {"shared.safetensors", "identity_tokens.safetensors"} <= found.keys()


def all_bytes(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


#: Recipe -> its changes.
WITHOUT_WEIGHTS = {
    "text": ("text_recipe", {}),
    "projector": ("llava_recipe", {"freeze_multi_modal_projector": False}),
    "base change": (
        "text_recipe",
        {"fcit_method": "sequential", "fcit_lora_aggregation": "exact", "lora_target": "q_proj,v_proj"},
    ),
}


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_the_aggregator_needs_no_weights_and_writes_the_same_bytes(request, run, tmp_path, monkeypatch, name):
    fixture, changes = WITHOUT_WEIGHTS[name]
    keys = request.getfixturevalue(fixture)(fcit_eval_every="never", **changes)
    model = shutil.copytree(keys["model_name_or_path"], tmp_path / "model")
    carrier = Carrier(run, {**keys, "model_name_or_path": str(model)}, tmp_path)
    updates = [str(carrier.update(client, f"client{client}")) for client in sample_clients(3, 2, seed=42, stage=0, round=0)]
    to_fold = {"fcit_state_dir": str(carrier.state), "fcit_update_dirs": ",".join(updates)}
    with monkeypatch.context() as patch:
        patch.setattr(stages, "open_aggregator", stages.open_session)
        loaded = all_bytes(carrier.stage("fcit_aggregate", "with_weights", **to_fold))
    (model / "model.safetensors").unlink()
    found = all_bytes(carrier.stage("fcit_aggregate", "without_weights", **to_fold))
    assert found == loaded
    assert {"fcit_manifest.json", "identity_tokens.safetensors", "subspaces/0/adapter_model.safetensors"} <= found.keys()


@pytest.fixture
def carrier(text_recipe, run, tmp_path):
    return Carrier(run, text_recipe(fcit_eval_every="never"), tmp_path)


def test_an_update_of_another_round_is_refused_by_name(carrier):
    client = sample_clients(3, 2, seed=42, stage=0, round=0)[0]
    old = carrier.update(client, "old")
    carrier.round(0, 0, 0)
    with pytest.raises(ValueError, match=r"/old of client \d: it is of round 0, not 1\. The state"):
        carrier.stage("fcit_aggregate", "next", fcit_state_dir=str(carrier.state), fcit_update_dirs=str(old))


def test_a_client_that_is_not_sampled_is_told_who_is(carrier):
    sampled = sorted(sample_clients(3, 2, seed=42, stage=0, round=0))
    (other,) = {0, 1, 2} - set(sampled)
    with pytest.raises(ValueError, match=rf"Client {other} is not sampled .*are \[{sampled[0]}, {sampled[1]}\]"):
        carrier.update(other, "other")


def test_nothing_to_aggregate_is_said(carrier):
    with pytest.raises(ValueError, match="`fcit_update_dirs` names no update folder"):
        carrier.stage("fcit_aggregate", "next", fcit_state_dir=str(carrier.state))


@pytest.mark.parametrize("missing", ["fcit_update.json", "fcit_update.safetensors"])
def test_a_damaged_update_is_named(carrier, missing):
    update = carrier.update(sample_clients(3, 2, seed=42, stage=0, round=0)[0], "update")
    (update / missing).unlink()
    with pytest.raises(ValueError, match=missing):
        carrier.stage("fcit_aggregate", "next", fcit_state_dir=str(carrier.state), fcit_update_dirs=str(update))


def test_the_same_update_twice_is_refused(carrier):
    update = carrier.update(sample_clients(3, 2, seed=42, stage=0, round=0)[0], "update")
    copied = shutil.copytree(update, update.with_name("copied"))
    for other, sentence in ((update, f"{update} appears twice"), (copied, "it appears twice in the round")):
        with pytest.raises(ValueError, match=sentence):
            carrier.stage("fcit_aggregate", "next", fcit_state_dir=str(carrier.state), fcit_update_dirs=f"{update},{other}")


def test_a_name_that_is_no_folder_is_refused_rather_than_left_out(carrier, tmp_path):
    update = carrier.update(sample_clients(3, 2, seed=42, stage=0, round=0)[0], "update")
    with pytest.raises(ValueError, match=r"`fcit_update_dirs`: .*/updat is not a folder"):
        carrier.stage(
            "fcit_aggregate", "next", fcit_state_dir=str(carrier.state), fcit_update_dirs=f"{update},{tmp_path}/updat"
        )


def test_a_bad_update_folder_is_left_out_by_name_and_the_rest_is_folded_in_as_if_it_were_not_there(carrier, logged):
    first, second = sample_clients(3, 2, seed=42, stage=0, round=0)
    good, bad = carrier.update(first, "good"), carrier.update(second, "bad")
    alone = carrier.stage("fcit_aggregate", "alone", fcit_state_dir=str(carrier.state), fcit_update_dirs=str(good))
    description = json.loads((bad / "fcit_update.json").read_text())
    spoilt = {
        "counts": (description | {"metrics": description["metrics"] | {"num-examples": -1}}, "num-examples -1"),
        "task": (description | {"config": description["config"] | {"task": 17}}, "it is of task 17"),
        "form": (description | {"config": {"client": "x"}}, "fcit_update.json is not of its form, at `config."),
        "size": (description | {"note": "x" * 2**21}, "fcit_update.json has "),
        "run": (description | {"config": description["config"] | {"run": "x"}}, "it is of run 'x'"),
    }
    for name, (written, reason) in spoilt.items():
        (bad / "fcit_update.json").write_text(json.dumps(written))
        after = carrier.stage("fcit_aggregate", name, fcit_state_dir=str(carrier.state), fcit_update_dirs=f"{bad},{good}")
        assert weight_bytes(after) == weight_bytes(alone)
        (line,) = {line for line in logged.messages if "An update is left out" in line}
        assert str(bad) in line and reason in line
        logged.clear()


def test_an_update_holds_only_what_may_leave_a_client(carrier):
    update = carrier.update(sample_clients(3, 2, seed=42, stage=0, round=0)[0], "update")
    description = json.loads((update / "fcit_update.json").read_text())
    assert set(description["metrics"]) == {"num-examples", "own-cosines", "token-count", "train-loss"}
    told = description["metrics"]["own-cosines"]
    assert sum(told) == description["metrics"]["token-count"] and all(count == 0 or count >= 5 for count in told)
    assert sorted(path.name for path in update.iterdir()) == ["fcit_update.json", "fcit_update.safetensors"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": 7}, "`seed` is 7, but the state .* was made with 42"),
        ({"fcit_identity_center": False}, "`fcit_identity_center` is False, but the state .* was made with True"),
        ({"fcit_identity_form": "signs_64"}, "`fcit_identity_form` is 'signs_64', but the state .* was made with 'full'"),
        ({"fcit_later_rounds": "nearest"}, "`fcit_later_rounds` is 'nearest', but the state .* was made with 'open'"),
        ({"fcit_method": "sequential"}, "`fcit_method` is 'sequential', but the state .* was made with 'disco'"),
    ],
)
def test_a_site_with_another_recipe_than_the_server_is_refused(text_recipe, run, tmp_path, changes, sentence):
    carrier = Carrier(run, text_recipe(), tmp_path)
    client = sample_clients(3, 2, seed=42, stage=0, round=0)[0]
    with pytest.raises(ValueError, match=sentence):
        carrier.stage("fcit_client", "update", fcit_state_dir=str(carrier.state), fcit_client=client, **changes)


def test_a_site_with_few_records_waits_then_picks_its_subspace_and_leaves_no_token(text_recipe, run, tmp_path):
    keys = text_recipe(fcit_stages=[["color"]], fcit_num_rounds=2, fcit_max_client_samples=None)
    carrier, few = Carrier(run, keys, tmp_path), {"fcit_identity_min_records": 1000}
    first = sample_clients(3, 2, seed=42, stage=0, round=0)[0]
    with pytest.raises(ValueError, match=r"it waits, for it has \d+ records, fewer than 1000"):
        carrier.stage("fcit_client", "waiting", fcit_state_dir=str(carrier.state), fcit_client=first, **few)
    assert "it waits" in (tmp_path / "waiting" / "fcit_failure.json").read_text()
    carrier.round(0, 0, 0)
    before = load_file(carrier.state / "identity_tokens.safetensors")
    client = sample_clients(3, 2, seed=42, stage=0, round=1)[0]
    update = carrier.stage("fcit_client", "few", fcit_state_dir=str(carrier.state), fcit_client=client, **few)
    assert not [name for name in load_file(update / "fcit_update.safetensors") if name.startswith("token")]
    assert json.loads((update / "fcit_update.json").read_text())["metrics"]["chosen-subspace"] == 0
    after = carrier.stage(
        "fcit_aggregate", "after", fcit_state_dir=str(carrier.state), fcit_update_dirs=str(update), fcit_min_replies=1, **few
    )
    found = load_file(after / "identity_tokens.safetensors")
    assert {key: value.tobytes() for key, value in found.items()} == {key: value.tobytes() for key, value in before.items()}
    assert (
        weight_bytes(after)["subspaces/0/adapter_model.safetensors"]
        != (carrier.state / "subspaces" / "0" / "adapter_model.safetensors").read_bytes()
    )


def test_no_stage_overwrites_the_state_that_it_starts_from(text_recipe, run, tmp_path):
    carrier = Carrier(run, {**text_recipe(), "overwrite_output_dir": True}, tmp_path)
    before = weight_bytes(carrier.state)
    with pytest.raises(ValueError, match="`output_dir` is or holds the folder of `fcit_state_dir`"):
        carrier.stage("fcit_client", "state0", fcit_state_dir=str(carrier.state), fcit_client=0)
    other = carrier.stage("fcit_aggregate", "other")
    with pytest.raises(ValueError, match=r"already holds the results of a run .*; choose another folder"):
        carrier.stage("fcit_client", "other", fcit_state_dir=str(carrier.state), fcit_client=0)
    assert weight_bytes(carrier.state) == before == weight_bytes(other)


def test_the_shipped_recipes_of_folders_make_a_round_and_the_server_has_no_records(run, tmp_path):
    write_text_tasks(tmp_path / "text", train=32, test=4)

    def keys(name, **changes):
        recipe = yaml.safe_load((shipped("recipes") / "folders" / f"{name}.yaml").read_text())
        return run({**recipe, **changes})

    empty = tmp_path / "empty"
    empty.mkdir()
    state = keys("server", dataset_dir=str(empty), output_dir=str(tmp_path / "state0"))
    updates = [
        keys(
            "site",
            fcit_state_dir=str(state),
            fcit_client=client,
            dataset_dir=str(tmp_path / "text"),
            output_dir=str(tmp_path / f"site{client}"),
            max_samples=16,
        )
        for client in range(2)
    ]
    folded = {"fcit_state_dir": str(state), "fcit_update_dirs": ",".join(map(str, updates))}
    after = keys("server", dataset_dir=str(empty), output_dir=str(tmp_path / "state1"), **folded)
    manifest = json.loads((after / "fcit_manifest.json").read_text())
    assert (manifest["stage"], manifest["round"]) == (0, 1)
    assert [row["tasks"] for row in manifest["subspaces"]] == [{"text_last": 2}]


@pytest.mark.parametrize("method", registry("methods"))
def test_a_client_with_a_dataset_of_its_own_takes_it_for_no_earlier_task(text_recipe, run, tmp_path, method):
    """Methods whose clients go back to earlier tasks' records are refused; of others nothing of the kind is asked."""
    changes = {"fcit_method": method, "fcit_num_rounds": 1, "fcit_eval_every": "never"}
    args = FcitArguments(fcit_method=method)
    if not make_method(args).num_remembered():
        return
    keys = text_recipe(**changes)
    carrier = Carrier(run, keys, tmp_path)
    carrier.round(0, 0, 0)
    with pytest.raises(FcitError, match=rf"`fcit_method: {method}` .* `dataset` names those of the present one"):
        carrier.stage("fcit_client", "own", fcit_state_dir=str(carrier.state), fcit_client=0, dataset="letter")
    assert not (tmp_path / "own" / "fcit_update.json").exists()
