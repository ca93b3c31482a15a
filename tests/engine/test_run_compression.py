"""Runs with compressed updates on tiny models: bytes as planned, the same bits after a kill, with other keys and by folders."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from llamafactory.hparams import get_train_args
from runs import differences, outcome, report_of, run_recipe, weight_bytes
from safetensors.torch import load_file

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.federation.client_states import FOLDER
from fcit_plugin.recipe.bounds import bound_recipe
from fcit_plugin.scenario.sampling import sample_clients

#: One subspace over rounds, so that clients take part in it again; a rank at which arrays outweigh their headers.
KEYS = {
    **{"fcit_stages": [["color"]], "fcit_num_rounds": 3, "fcit_eval_every": "never", "fcit_zero_shot": False},
    **{"max_steps": 2, "save_total_limit": 0},
}
LARGE = {"lora_rank": 64, "fcit_stages": [["color"], ["letter"]], "fcit_num_rounds": 2}


def finite(output_dir):
    tensors = [value for path in output_dir.rglob("*.safetensors") for value in load_file(path).values()]
    return bool(tensors) and all(bool(torch.isfinite(value.float()).all()) for value in tensors)


def from_commit(recipe, whole, number, name):
    """The same recipe in another folder, gone on with from a commit: all later rounds are done again."""
    keys = recipe(name)
    commit = f"checkpoints/round-{number:04d}"
    shutil.copytree(whole / commit, Path(keys["output_dir"]) / commit)
    return run_recipe(keys)


def check(recipe, number=1):
    """A run is finite, and goes on from a commit to the same bits; gives its output."""
    whole = run_recipe(recipe("whole"))
    assert finite(whole)
    again = from_commit(recipe, whole, number, "again")
    missing = [f"checkpoints/round-{n:04d}" for n in range(number)]
    found = differences(outcome(again), outcome(whole))
    assert [name for name in found if not name.startswith(tuple(missing))] == []
    return whole


def planned(keys, folder):
    keys = {**keys, "fcit_identity_encoder": "embedding"}  # what `auto` becomes in the run, and a plan cannot know
    plan = run_recipe({**keys, "fcit_dry_run": True, "output_dir": str(folder), "fcit_keep_client_updates": False})
    plan = json.loads((plan / "fcit_dry_run.json").read_text())
    return plan["bytes_up"], plan["bytes_down"]


@pytest.mark.parametrize(("name", "ratio"), [("bf16", 0.5), ("int8", 0.25)])
def test_a_run_sends_as_many_bytes_as_planned_and_goes_on_to_the_same_bits(text_recipe, tmp_path, name, ratio):
    def recipe(folder, **changes):
        return text_recipe(folder, **(KEYS | LARGE), **{"fcit_update_compression": name} | changes)

    whole = check(recipe, number=2)
    report = report_of(whole)
    assert (report["bytes_up"], report["bytes_down"]) == planned(recipe("whole"), tmp_path / "plan")
    plain = planned(recipe("plain", fcit_update_compression="none"), tmp_path / "plain")
    assert report["bytes_up"] == pytest.approx(ratio * plain[0], rel=0.1)
    assert report["bytes_down"] == plain[1]
    assert (whole / "checkpoints" / "round-0004" / FOLDER).is_dir() == (name == "int8")
    assert report["arguments"]["fcit_update_compression"] == name


def test_a_trained_projector_has_residuals_of_its_own_and_is_planned_for(llava_recipe, tmp_path):
    def recipe(folder):
        changes = {"fcit_update_compression": "int8", "freeze_multi_modal_projector": False}
        return llava_recipe(folder, **KEYS, **changes)

    whole = check(recipe)
    report = report_of(whole)
    assert (report["bytes_up"], report["bytes_down"]) == planned(recipe("whole"), tmp_path / "plan")
    held = load_file(next((whole / "checkpoints" / "round-0003" / FOLDER).iterdir()))
    assert {name.split("/")[1] for name in held} == {"0", "shared"}
    shared = load_file(whole / "shared.safetensors")
    assert {name.split("/", 2)[2] for name in held if "/shared/" in name} == set(shared)
    assert all(value.any() for name, value in held.items())


COMBINATIONS = {
    "scaffold": {"fcit_server_rule": "scaffold"},
    "clipping": {"fcit_dp_clipping_norm": 0.05},
    "rotate": {"fcit_lora_aggregation": "rotate"},
    "exact": {"fcit_lora_aggregation": "exact", "fcit_method": "sequential"},
}


@pytest.mark.parametrize("name", [pytest.param("bf16", marks=pytest.mark.slow), "int8"])
@pytest.mark.parametrize("with_", COMBINATIONS)
def test_it_goes_with_rules_clipping_and_aggregations(text_recipe, tmp_path, with_, name):
    def recipe(folder):
        return text_recipe(folder, **KEYS, **COMBINATIONS[with_], fcit_update_compression=name)

    whole = check(recipe)
    report = report_of(whole)
    assert report["dropped"] == []
    if with_ in ("scaffold", "clipping"):  # the others' plans are of the largest round
        assert (report["bytes_up"], report["bytes_down"]) == planned(recipe("whole"), tmp_path / "plan")


@pytest.mark.parametrize("aggregation", ["refactor", "svd", "stack"])
def test_residuals_of_factors_that_begin_anew_in_each_round_are_refused(aggregation):
    keys = {"fcit_lora_aggregation": aggregation, "fcit_method": "sequential"}
    FcitArguments(**keys, fcit_update_compression="bf16")
    with pytest.raises(ValueError, match=f"`fcit_update_compression: int8` .* `fcit_lora_aggregation: {aggregation}`"):
        FcitArguments(**keys, fcit_update_compression="int8")


@pytest.mark.parametrize("reference", ["zero_shot", "local", "centralized"])
def test_a_bound_without_updates_compresses_none(reference):
    def compression_of(bound):
        return bound_recipe({}, FcitArguments(fcit_update_compression="int8", fcit_bound=bound)).fcit_update_compression

    assert (compression_of(reference), compression_of("oracle")) == ("none", "int8")


def test_another_compression_is_refused_when_a_run_goes_on(text_recipe):
    whole = run_recipe(text_recipe(**KEYS | {"fcit_num_rounds": 1}))
    with pytest.raises(ValueError, match="`fcit_update_compression` was 'none' and is 'int8'"):
        run_recipe(text_recipe(**KEYS | {"fcit_num_rounds": 1}, fcit_update_compression="int8"))
    assert not (whole / "checkpoints" / "round-0001" / FOLDER).exists()


# by folders


class Carrier:
    """Runs rounds through ``fcit_client`` and ``fcit_aggregate``; each client has a folder of its own if it needs one."""

    def __init__(self, recipe, root):
        self.keys = {key: value for key, value in recipe.items() if key not in ("stage", "output_dir")}
        self.root, self.own = root, recipe["fcit_update_compression"] == "int8"
        self.state = self.stage("fcit_aggregate", "state0")

    def stage(self, stage, name, **changes):
        return run_recipe({**self.keys, "stage": stage, "output_dir": str(self.root / name), **changes})

    def update(self, client, name):
        own = {"fcit_client_dir": str(self.root / f"own{client}")} if self.own else {}
        return self.stage("fcit_client", name, fcit_state_dir=str(self.state), fcit_client=client, **own)

    def round(self, stage, round, place):
        clients = sample_clients(3, 2, seed=42, stage=stage, round=round)
        updates = [self.update(client, f"{place}_client{client}") for client in clients]
        dirs = ",".join(map(str, reversed(updates)))
        self.state = self.stage("fcit_aggregate", f"{place}_state", fcit_state_dir=str(self.state), fcit_update_dirs=dirs)


@pytest.mark.parametrize("name", ["bf16", "int8"])
def test_rounds_by_folders_are_those_of_the_loop_bit_for_bit(text_recipe, tmp_path, name):
    """Two subspaces open in the first round, whose numbers the clients that open them cannot know by folders."""
    changes = {"fcit_setting": "custom", "fcit_stages": [["color"], ["letter"]], "fcit_schedule": [[0, 1]]}
    keys = text_recipe("whole", **KEYS | changes, fcit_update_compression=name)
    whole = run_recipe(keys)
    carrier = Carrier(keys, tmp_path)
    for round in range(3):
        carrier.round(0, round, f"round{round}")
    by_loop = {name: data for name, data in weight_bytes(whole).items() if not name.startswith("checkpoints")}
    assert weight_bytes(carrier.state) == by_loop
    assert len([path for path in by_loop if path.startswith("subspaces")]) == 2


def test_a_client_that_does_a_round_again_sends_the_same_update(text_recipe, tmp_path):
    carrier = Carrier(text_recipe("whole", **KEYS, fcit_update_compression="int8"), tmp_path)
    for round in range(2):
        carrier.round(0, round, f"r{round}")
    client = min(set.intersection(*(set(sample_clients(3, 2, seed=42, stage=0, round=r)) for r in (1, 2))))
    one, other = carrier.update(client, "one"), carrier.update(client, "other")
    assert weight_bytes(one) == weight_bytes(other)
    shutil.rmtree(tmp_path / f"own{client}")
    assert weight_bytes(carrier.update(client, "without")) != weight_bytes(one), "what it had kept played a part"


REFUSED = [
    ({"fcit_client_dir": None}, "`stage: fcit_client` with `fcit_update_compression: int8` needs `fcit_client_dir`"),
    ({"fcit_update_compression": "bf16"}, "`fcit_client_dir` is where .* with bf16 there is nothing to keep; take it out"),
    ({"fcit_client_dir": "{out}/own"}, "`fcit_client_dir` .* is for the client alone, and `output_dir` .* goes to the server"),
    ({"stage": "fcit"}, "`fcit_client_dir` belongs to `stage: fcit_client`"),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED)
def test_what_makes_no_sense_by_folders_is_refused(text_recipe, tmp_path, changes, sentence):
    keys = text_recipe(**KEYS, fcit_update_compression="int8") | {
        **{"stage": "fcit_client", "fcit_client": 0, "fcit_state_dir": str(tmp_path), "fcit_client_dir": str(tmp_path / "own")},
        **changes,
    }
    keys = {key: value.format(out=keys["output_dir"]) if isinstance(value, str) else value for key, value in keys.items()}
    if changes.get("stage") == "fcit":
        del keys["fcit_client"], keys["fcit_state_dir"]
    with pytest.raises(ValueError, match=sentence):
        get_train_args({key: value for key, value in keys.items() if value is not None})


def test_a_site_that_compresses_otherwise_than_the_server_is_refused(text_recipe, tmp_path):
    carrier = Carrier(text_recipe("whole", **KEYS, fcit_update_compression="none"), tmp_path)
    client = sample_clients(3, 2, seed=42, stage=0, round=0)[0]
    with pytest.raises(ValueError, match=r"`fcit_update_compression` is 'bf16', but the state .* was made with 'none'"):
        carrier.stage("fcit_client", "u", fcit_state_dir=str(carrier.state), fcit_client=client, fcit_update_compression="bf16")
