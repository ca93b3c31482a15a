"""DeepSpeed ZeRO-2 and -3 and plain DDP give what one process without them gives: 3 stages, 3 rounds, 4 clients."""

import pytest
import tiny
from runs import ROOT, report_of, run_recipe
from safetensors.torch import load_file

pytest.importorskip("deepspeed")

GLOBAL_BATCH = 2
#: Largest difference of an adapter weight; the weights themselves go up to 0.2. Measured on this data: below 7e-7.
TOLERANCE = 1e-5
ENGINES = {name: {"deepspeed": str(ROOT / f"recipes/deepspeed/ds_{name}_config.json")} for name in ("z2", "z3")}
ENGINES["ddp"] = {}


@pytest.fixture(scope="module")
def keys(text_model, text_data, tmp_path_factory):
    """A recipe whose clients have whole batches, so that any number of processes sees the same ones."""
    return tiny.recipe(
        text_model,
        text_data,
        tmp_path_factory.mktemp("deepspeed") / "plain",
        fcit_stages=[["color"], ["letter"], ["number"]],
        fcit_num_clients=4,
        fcit_num_rounds=3,
        fcit_partition="iid",
        per_device_train_batch_size=GLOBAL_BATCH,
    )


@pytest.fixture(scope="module")
def plain(keys):
    """The output of one process without DeepSpeed."""
    return run_recipe(keys)


@pytest.mark.parametrize(("engine", "processes"), [("z2", 1), ("z2", 2), ("z3", 1), ("z3", 2), ("ddp", 2)])
def test_the_final_state_is_that_of_plain_training(engine, processes, keys, plain, tmp_path, process):
    output_dir = tmp_path / "out"
    changed = {"output_dir": str(output_dir), "per_device_train_batch_size": GLOBAL_BATCH // processes}
    recipe = tiny.write_recipe(tmp_path / "r.yaml", keys | changed | ENGINES[engine] | {"ddp_backend": "gloo"})
    env = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": str(processes)}
    process(["llamafactory-cli", "train", str(recipe)], env, timeout=600)

    adapters = sorted(plain.glob("subspaces/*/adapter_model.safetensors"))
    assert len(adapters) == 3
    for path in adapters:
        expected, found = load_file(path), load_file(output_dir / path.relative_to(plain))
        assert expected.keys() == found.keys()
        assert max((found[key] - value).abs().max().item() for key, value in expected.items()) < TOLERANCE
    report, expected = report_of(output_dir), report_of(plain)
    for key in ("assignments", "zero_shot", "accuracy", "accuracy_restricted", "bytes_up", "bytes_down"):
        assert report[key] == expected[key], key
