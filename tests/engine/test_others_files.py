"""What a run clears away before it begins is what runs leave, not what a user has in folders of those names."""

from types import SimpleNamespace

import pytest

from fcit_plugin.engine.open_session import clear_output_dir
from fcit_plugin.engine.session import Session
from fcit_plugin.state.checkpoints import Checkpoints
from fcit_plugin.state.names import MANIFEST

#: Folder -> what a run leaves in it, files and folders; of all a user has something beside it.
OURS = {
    "predictions": ["untuned.jsonl", "stage-0.jsonl", "stage-12.jsonl", "stage-3.jsonl.partial"],
    "subspaces": ["0/adapter_config.json", "13/adapter_model.safetensors"],
    "updates": ["stage0_round1_client7/update.json"],
    "checkpoints": ["round-0003/checksums.json", "round-0003.replies/client-1/reply.json"],
}
THEIRS = ["notes.txt", "stage-0.jsonl.bak", "0_old/weights.bin", "deep/er/stage-0.jsonl", "my-stage-0.jsonl"]


def cleared(output, held):
    """A run's output folder as it is when a run begins there anew."""
    session = SimpleNamespace(output_dir=output, checkpoints=Checkpoints(output))
    session.clear_results = lambda: Session.clear_results(session)
    clear_output_dir(session, held)
    return {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}


def filled(output, names):
    for name in names:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text("x")


@pytest.mark.parametrize("held", [[], [MANIFEST]], ids=["no_run_is_there", "a_run_is_overwritten"])
def test_what_a_user_has_in_folders_of_our_names_stays(held, tmp_path):
    theirs = {f"{folder}/{name}" for folder in OURS for name in THEIRS}
    filled(tmp_path, theirs)
    filled(tmp_path, (f"{folder}/{name}" for folder, names in OURS.items() for name in names))
    left = cleared(tmp_path, held)
    assert left >= theirs
    always = {"predictions", "checkpoints"} | (set(OURS) if held else set())
    assert not {f"{folder}/{name}" for folder in always for name in OURS[folder]} & left


def test_folders_that_held_ours_alone_go_and_links_stay(tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    filled(elsewhere, ["stage-0.jsonl"])
    filled(run, (f"{folder}/{name}" for folder in ("subspaces", "updates") for name in OURS[folder]))
    (run / "predictions").symlink_to(elsewhere)
    assert cleared(run, [MANIFEST]) == set()
    assert not (run / "subspaces").exists() and not (run / "updates").exists()
    assert (elsewhere / "stage-0.jsonl").exists()
