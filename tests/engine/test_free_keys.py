"""Keys that may differ where a run goes on change no number of its training: all of them at once, beside all that draws."""

from fnmatch import fnmatchcase

from runs import run_recipe

from fcit_plugin.engine.fingerprint import FREE
from fcit_plugin.recipe.theirs import REFUSED, TABLE

#: Our own, and LLaMA-Factory's of which its table has no value to try.
MORE = {
    "per_device_eval_batch_size": 3,
    "dataloader_prefetch_factor": 3,
    "fcit_save_predictions": 0,
    "fcit_keep_client_updates": True,
    "fcit_verify_data": "full",
    "fcit_client_timeout": 900,
    "fcit_threads": 1,
}
#: Of the process, which other tests share.
APART = ("log_level*", "logging_dir", "cache_dir")


def is_free(name):
    return any(fnmatchcase(name, pattern) for pattern in FREE) and not any(fnmatchcase(name, pattern) for pattern in APART)


def last_weights(output_dir):
    return {path.parent.name: path.read_bytes() for path in sorted((output_dir / "subspaces").rglob("*.safetensors"))}


def test_no_key_that_may_differ_changes_the_training(text_recipe, tmp_path):
    rows = {name: row for rows in TABLE.values() for name, row in rows.items() if is_free(name) and row.status != REFUSED}
    tried = {name: row for name, row in rows.items() if row.value is not None}
    keys = {name: value for row in tried.values() for name, value in row.beside.items() if is_free(name)}
    keys |= {name: row.value for name, row in tried.items()} | MORE
    keys = {name: value.format(tmp=tmp_path) if isinstance(value, str) else value for name, value in keys.items()}
    assert len(tried) > 60 and not [name for name in MORE if not is_free(name)]
    # records that are made up, dropout, a second epoch and updates that leave residuals behind
    drawn = {"fcit_method": "lamol", "fcit_lamol_gamma": 1.0, "lora_dropout": 0.1, "num_train_epochs": 2.0}
    drawn |= {"fcit_update_compression": "int8", "fcit_eval_every": "last"}
    usual = run_recipe(text_recipe("usual", **drawn, per_device_eval_batch_size=8))
    others = run_recipe(text_recipe("others", **drawn | keys))
    assert last_weights(usual) == last_weights(others)
