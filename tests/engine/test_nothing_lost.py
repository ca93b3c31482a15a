"""No run and no evaluation takes away what it begins from, nor, unasked, what another one has left in its `output_dir`."""

import shutil

import pytest
from llamafactory.hparams import get_train_args
from runs import run_recipe

from fcit_plugin.state.output_folder import would_lose


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def held(text_run, tmp_path):
    """A copy of a finished run, with its clients' updates, and a link to it."""
    run = shutil.copytree(text_run, tmp_path / "run")
    (tmp_path / "link").symlink_to(run)
    return run


#: Which keys name what is begun from -> what else the recipe has.
BEGUN_FROM = {
    "adapter_name_or_path": {"stage": "fcit", "do_train": False},
    "adapter_name_or_path, new stages": {"stage": "fcit"},
    "fcit_state_dir": {"stage": "fcit_client", "fcit_client": 0},
    "fcit_state_dir, of the server": {"stage": "fcit_aggregate", "fcit_update_dirs": ["elsewhere"]},
    "fcit_update_dirs": {"stage": "fcit_aggregate", "fcit_state_dir": "elsewhere"},
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("named", BEGUN_FROM)
def test_what_is_begun_from_is_not_replaced_wherever_in_the_output_folder_it_lies(named, overwrite, text_keys, held, tmp_path):
    key = named.partition(",")[0]
    commit, update = (max((held / name).iterdir()).relative_to(held).as_posix() for name in ("checkpoints", "updates"))
    before = files(held)
    for inside in ("", commit, update):
        if inside.startswith("updates") and key == "adapter_name_or_path":
            continue  # which is no folder of a run
        for place in (held / inside, tmp_path / "link" / inside):
            given = [str(place)] if key == "fcit_update_dirs" else str(place)
            keys = {**text_keys, **BEGUN_FROM[named], key: given, "output_dir": str(held), "overwrite_output_dir": overwrite}
            with pytest.raises(ValueError, match=r"`output_dir` is or holds the folder .*name another"):
                get_train_args(keys)
    assert files(held) == before


@pytest.mark.parametrize("left", ["a run", "an evaluation"])
def test_an_evaluation_does_not_replace_unasked_what_is_there(left, text_keys, text_run, held):
    if left == "an evaluation":
        for path in held.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "fcit_report.json":
                path.unlink()
    before = files(held)
    keys = {**text_keys, "do_train": False, "adapter_name_or_path": str(text_run), "output_dir": str(held)}
    with pytest.raises(ValueError, match=r"already holds the results of a run .*`overwrite_output_dir: true`"):
        run_recipe({**keys, "fcit_keep_client_updates": False})
    assert files(held) == before


@pytest.mark.parametrize(
    ("folder", "lost"),
    [
        (".", True),
        ("checkpoints/round-0001", True),
        ("checkpoints/round-0001/subspaces/0", True),
        ("updates/stage0_round1_client2", True),
        ("checkpoints", False),  # it stays, and so does what is another's in it
        ("checkpoints/mine", False),
        ("updates/u3", False),
        ("elsewhere/round-0001", False),
        ("../round-0001", False),
    ],
)
def test_what_no_run_takes_away_may_lie_in_its_output_folder(folder, lost, tmp_path):
    assert would_lose(tmp_path / "out", tmp_path / "out" / folder) is lost
