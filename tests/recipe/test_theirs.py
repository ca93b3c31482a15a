"""Every key of LLaMA-Factory's is in the table, and does what stands there."""

import json
import types
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import tiny
import torch
from llamafactory.hparams import get_train_args
from llamafactory.hparams.parser import _TRAIN_ARGS
from runs import ROOT, differences, losses_of, outcome, run_recipe, trained_alone

from fcit_plugin.errors import FcitError
from fcit_plugin.recipe.theirs import BELONG_TO, LEARNED, REFUSED, REFUSES, SAME, TABLE, WORKS, settable

FIELDS = {item.name: (part, item) for part in _TRAIN_ARGS for item in settable(part)}
ROWS = {name: row for rows in TABLE.values() for name, row in rows.items()}
BY_TEST = {test: sorted(name for name, row in ROWS.items() if row.test == test) for test in (LEARNED, SAME)}
#: Keys of which a run on the tiny LLaVA tells more.
OF_IMAGES = [name for name in BY_TEST[LEARNED] if name.startswith(("image_m", "video_", "crop_", "audio_", "use_audio"))]
#: Keys whose other value cannot be put together with those of others, or takes long.
APART = {
    "quantization_type", "double_quantization", "quantization_method", "full_determinism", "use_muon",
    "use_dft_loss", "use_eaft_loss", "eaft_alpha", "use_llama_pro", "freeze_trainable_layers", "optim", "optim_args",
    "lr_scheduler_kwargs", "warmup_steps", "logging_strategy", "cutoff_len", "use_unsloth_gc", "max_steps",
    "image_max_pixels", "loraplus_lr_ratio", "loraplus_lr_embedding", "lora_target", "mask_history", "dataloader_drop_last",
    "dataloader_num_workers", "dataloader_persistent_workers", "dataloader_prefetch_factor", "preprocessing_num_workers",
}  # fmt: skip


def test_every_key_has_a_row_and_every_row_a_key():
    """A field that a later LLaMA-Factory or transformers brings, or takes away, fails here."""
    assert {part.__name__: {item.name for item in settable(part)} for part in _TRAIN_ARGS} == {
        name: set(rows) for name, rows in TABLE.items()
    }
    assert len(FIELDS) == sum(map(len, TABLE.values())), "a key of two classes"


@pytest.mark.parametrize("test", sorted({row.test for row in ROWS.values()}))
def test_the_tests_that_the_table_names_are_there(test):
    path, _, name = test.partition("::")
    assert f"def {name or 'test_'}" in (ROOT / path).read_text()


def test_the_page_is_written_from_the_table():
    import runpy

    tool = runpy.run_path(str(ROOT / "tools" / "llamafactory_keys_page.py"))
    assert tool["PAGE"].read_text(encoding="utf-8") == tool["render"](), "run python tools/llamafactory_keys_page.py"


def other_value(name: str) -> Any:
    """A value of a key's type that is not its default."""
    part, item = FIELDS[name]
    hint = get_type_hints(part)[name]
    kinds = [kind for kind in (get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)) if kind]
    kind = kinds[0]
    default = getattr(item.default, "value", item.default)
    if get_origin(kind) is Literal:
        return next(value for value in get_args(kind) if value != default)
    if isinstance(kind, type) and hasattr(kind, "__members__"):
        return next(member.value for member in kind if member.value != default)
    if kind is bool:
        return not default
    if kind in (int, float):
        return kind((default or 0) + 1)
    return {"a": 1} if get_origin(kind) is dict or kind is dict else "something"


@pytest.mark.parametrize("name", sorted(name for name, row in ROWS.items() if row.test == REFUSES))
def test_a_refused_key_is_named(text_recipe, name):
    with pytest.raises(FcitError, match=f"`{name}(: false)?` cannot be used with the fcit stages: ") as caught:
        get_train_args(text_recipe(**{name: other_value(name)}))
    assert ROWS[name].words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refused_keys_at_their_defaults_are_no_matter(text_recipe):
    defaults = {name: getattr(item.default, "value", item.default) for name, (_, item) in FIELDS.items()}
    get_train_args(text_recipe(**{name: defaults[name] for name, row in ROWS.items() if row.status == REFUSED}))


@pytest.fixture(scope="module")
def preferences(tmp_path_factory):
    """Pairs and feedback."""
    folder = tmp_path_factory.mktemp("preferences")
    columns = {"dpo": {"prompt": "q", "chosen": "a", "rejected": "b"}, "kto": {"prompt": "q", "response": "a", "kto_tag": "t"}}
    colors = [*tiny.COLORS] * 3
    rows = [
        {"q": f"name the color {a}", "a": a, "b": b, "t": a < b} for a, b in zip(colors, colors[1:] + colors[:1], strict=True)
    ]
    (folder / "rows.json").write_text(json.dumps(rows))
    info = {name: {"file_name": "rows.json", "ranking": name == "dpo", "columns": columns[name]} for name in columns}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture(scope="module")
def one_client(request, tmp_path_factory):
    """Makes recipes of one client in one round, on the tiny Llama or the tiny LLaVA."""

    def make(keys: dict[str, Any], of: str = "text") -> dict[str, Any]:
        model = "llava_model" if of == "images" else "text_model"
        data = {"text": "text_data", "images": "image_data"}.get(of, "preferences")
        folder = tmp_path_factory.mktemp("theirs")
        recipe = tiny.recipe(
            request.getfixturevalue(model),
            request.getfixturevalue(data),
            folder / "out",
            fcit_stages=[[of if data == "preferences" else "color"]],
            fcit_num_clients=1,
            fcit_clients_per_round=1,
            fcit_num_rounds=1,
            fcit_eval_every="never",
            seed=3,
        )
        return json.loads(json.dumps(recipe | keys).replace("{tmp}", str(folder)))

    return make


def value_of(*names: str) -> dict[str, Any]:
    """The other value of some keys, with what it needs beside it."""
    found: dict[str, Any] = {}
    for name in names:
        found |= {**ROWS[name].beside, name: ROWS[name].value}
    return found


def as_llamafactory(recipe: dict[str, Any]) -> dict[str, bytes]:
    """Run a recipe of one client, and compare it with LLaMA-Factory's own run; returns what was learned."""
    output_dir = run_recipe(recipe)
    alone = trained_alone(recipe, output_dir, output_dir.parent / "alone")
    (found,) = (output_dir / "subspaces").glob("*/adapter_model.safetensors")
    assert tensors(found) == tensors(alone / "adapter_model.safetensors")
    assert losses_of(output_dir) == losses_of(alone)
    return tensors(found)


def tensors(path: Path) -> dict[str, bytes]:
    """The bits of every tensor in a file."""
    from safetensors.torch import load_file

    return {name: value.contiguous().view(-1).numpy().tobytes() for name, value in load_file(path).items()}


#: By the local stage that keys are of.
OF_PREFERENCES = {name: stage for name in BY_TEST[LEARNED] if (stage := ROWS[name].beside.get("fcit_local_stage"))}
TOGETHER = [name for name in BY_TEST[LEARNED] if name not in {*APART, *OF_IMAGES, *OF_PREFERENCES}]


@pytest.mark.parametrize(
    ("of", "names"),
    [("text", TOGETHER[::2]), ("text", TOGETHER[1::2]), ("images", [name for name in OF_IMAGES if name not in APART])],
    ids=["half of them", "the other half", "of images"],
)
def test_a_client_learns_what_llamafactory_learns_with_many_keys_at_once(one_client, of, names):
    as_llamafactory(one_client(value_of(*names), of))


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_TEST[LEARNED])
def test_a_client_learns_what_llamafactory_learns(one_client, name):
    if name == "use_unsloth_gc" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    as_llamafactory(one_client(value_of(name), OF_PREFERENCES.get(name, "images" if name in OF_IMAGES else "text")))


@pytest.mark.parametrize("owner", BELONG_TO)
def test_a_key_without_the_one_that_it_belongs_to_is_named(text_recipe, logged, owner):
    names = [name for name in ROWS if fnmatchcase(name, BELONG_TO[owner]) and ROWS[name].status == WORKS and name != owner]
    get_train_args(text_recipe(**{name: other_value(name) for name in names}))
    (line,) = [record.message for record in logged.records if record.message.startswith("Without effect")]
    assert names and all(f"`{name}`" in line for name in names) and f"(it belongs to `{owner}`)" in line


def test_what_a_site_does_not_do_is_named(text_recipe, tmp_path, logged):
    keys = {
        "report_to": "tensorboard",
        "eval_dataset": "color_test,letter_test",
        "do_eval": True,
        "per_device_eval_batch_size": 2,
    }
    get_train_args(text_recipe(**keys, stage="fcit_client", fcit_state_dir=str(tmp_path), fcit_client=0))
    (line,) = [record.message for record in logged.records if record.message.startswith("Without effect")]
    assert all(f"`{name}`" in line for name in keys) and "(it belongs to `stage: fcit`)" in line
    assert not any("are answered and scored" in record.message for record in logged.records)


@pytest.mark.parametrize(("stage", "idle"), [("sft", 9), ("dpo", 2), ("kto", 5)])
def test_a_key_of_another_local_stage_is_named(text_recipe, logged, stage, idle):
    names = [name for name in OF_PREFERENCES if name not in ("pref_loss", "dpo_label_smoothing")]
    changes = {name: ROWS[name].value for name in names} | {"pref_loss": "ipo" if stage != "sft" else "hinge"}
    get_train_args(text_recipe(**changes, fcit_local_stage=stage, dpo_label_smoothing=0.0))
    lines = [record.message for record in logged.records if record.message.startswith("Without effect")]
    named = {name for name in OF_PREFERENCES for line in lines if f"`{name}`" in line}
    assert len(named) == idle - (stage != "dpo")
    assert all(fits not in named for fits in OF_PREFERENCES if OF_PREFERENCES[fits] == stage)


@pytest.fixture(scope="module")
def whole_run(request, tmp_path_factory):
    """Makes recipes of two stages that are evaluated."""

    def make(keys: dict[str, Any]) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("same")
        model, data = (request.getfixturevalue(name) for name in ("text_model", "text_data"))
        recipe = tiny.recipe(model, data, folder / "out", fcit_num_rounds=1)
        return json.loads(json.dumps(recipe | keys).replace("{tmp}", str(folder)))

    return make


@pytest.fixture(scope="module")
def plain(whole_run):
    """All that such a run leaves."""
    return outcome(run_recipe(whole_run({})))


def test_keys_without_effect_change_no_bit_all_at_once(whole_run, plain, logged):
    keys = value_of(*(name for name in BY_TEST[SAME] if name != "disable_tqdm"))
    assert differences(outcome(run_recipe(whole_run(keys))), plain) == []
    (line,) = [record.message for record in logged.records if record.message.startswith("Without effect")]
    assert [name for name in keys if f"`{name}`" not in line] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_TEST[SAME])
def test_a_key_without_effect_changes_no_bit(whole_run, plain, name):
    assert differences(outcome(run_recipe(whole_run(value_of(name)))), plain) == []
