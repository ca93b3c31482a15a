"""Joining two runs, against means written out by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fcit_plugin.cli import main
from fcit_plugin.commands.command import make_parser
from fcit_plugin.commands.join import JOIN
from fcit_plugin.errors import FcitError
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.knowledge.organizer import Organizer, SingleSubspace
from fcit_plugin.knowledge.own_cosines import BINS
from fcit_plugin.scenario import Scenario, Task
from fcit_plugin.serving.join import join, join_folders
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.server_state import ServerState, save_state

MANIFEST = {
    "base_model": "base",
    "base_fingerprint": "aaaa",
    "template": "vicuna",
    "method": "disco",
    "identity_encoder": "embedding",
    "identity_pooling": "mean",
    "identity_center": True,
    "similarity_threshold": 0.9,
    "activation": "softmax",
    "temperature": 0.05,
    "setting": "custom",
    "stages": [["color"], ["letter"]],
    "rounds": [2, 2],
    "scenario": Scenario("custom", (Task("color", ("color",)), Task("letter", ("letter",))), ((0,), (1,))).to_dict(),
}
OTHER_MANIFEST = MANIFEST | {
    "stages": [["number"], ["letter"], ["number"]],
    "rounds": [1, 1, 3],
    "scenario": Scenario("custom", (Task("number", ("number",)), Task("letter", ("letter",))), ((0,), (1,), (0,))).to_dict(),
}
CONFIG = {"r": 2, "lora_alpha": 4, "use_rslora": False, "target_modules": ["up_proj", "down_proj"]}


def subspace(value):
    return {"l.lora_A.weight": torch.full((2, 3), float(value)), "l.lora_B.weight": torch.full((4, 2), 10.0 * value)}


def state_of(tokens, counts, values, tasks, shared=None, stage=2):
    tokens, counts = np.array(tokens, np.float32), np.array(counts, np.int64)
    return ServerState(
        SubspaceTokens(tokens * np.maximum(counts, 1)[:, None].astype(np.float32), counts),
        {} if shared is None else {"p.weight": torch.tensor([float(shared)])},
        [subspace(value) for value in values],
        stage=stage,
        tasks=[dict(row) for row in tasks],
        rules={"0/m": np.ones(1, np.float32)},
    )


FIRST = state_of([[1, 0, 0], [0, 1, 0]], [30, 10], [1, 2], [{"color": 3}, {"letter": 1}], shared=0)
#: like color; of its own kind; like letter; like color again, less so
SECOND = state_of(
    [[0.99, 0.1, 0], [0, 0, 1], [0, 2, 0], [0.95, 0, 0.3]],
    [10, 5, 30, 20],
    [5, 7, 6, 9],
    [{"color": 1, "hue": 2}, {"number": 1}, {"letter": 4}, {"shade": 1}],
    shared=8,
    stage=3,
)


def filled(state, k):
    values = {key: set(value.flatten().tolist()) for key, value in state.subspaces[k].items()}
    (a,), (b,) = values["l.lora_A.weight"], values["l.lora_B.weight"]
    assert b == pytest.approx(10 * a, rel=1e-6)
    return a


def test_subspaces_of_one_kind_are_merged_by_counts_and_others_are_kept():
    joined = join(FIRST, SECOND, Organizer(0.9, None))
    state = joined.state
    assert (joined.places, joined.num_first) == ([0, 2, 1, 0], 2)
    assert filled(state, 0) == pytest.approx((30 * 1 + 10 * 5 + 20 * 9) / 60)
    assert filled(state, 1) == pytest.approx((10 * 2 + 30 * 6) / 40)
    assert filled(state, 2) == 7
    assert state.tokens.counts.tolist() == [60, 40, 5]
    color = (30 * np.array([1, 0, 0]) + 10 * np.array([0.99, 0.1, 0]) + 20 * np.array([0.95, 0, 0.3])) / 60
    np.testing.assert_allclose(state.tokens.tokens, [color, [0, 1.75, 0], [0, 0, 1]], rtol=1e-6)
    assert state.tasks == [{"color": 4, "hue": 2, "shade": 1}, {"letter": 5}, {"number": 1}]
    assert state.shared["p.weight"].item() == pytest.approx((40 * 0 + 65 * 8) / 105)
    assert (state.stage, state.round, state.rules) == (5, 0, {})


def test_how_near_own_instructions_lie_is_summed_where_subspaces_are_merged():
    counts = [tuple(10 * k + place % 3 for place in range(BINS)) for k in range(4)]
    first, second = replace(FIRST, own_cosines={0: counts[0]}), replace(SECOND, own_cosines={0: counts[1], 1: counts[2]})
    found = join(first, second, Organizer(0.9, None)).state.own_cosines
    assert found == {0: tuple(np.add(counts[0], counts[1])), 2: counts[2]}
    assert join(FIRST, SECOND, Organizer(0.9, None)).state.own_cosines == {}


def test_what_nothing_matched_stays_bit_identical():
    joined = join(FIRST, SECOND, Organizer(1.0, None))
    assert joined.places == [2, 3, 1, 4]
    for k, original in ((0, FIRST.subspaces[0]), (3, SECOND.subspaces[1])):
        assert all(torch.equal(joined.state.subspaces[k][key], value) for key, value in original.items())


def test_two_runs_with_one_partner_each_give_the_same_whichever_comes_first():
    one = state_of([[1, 0], [0, 1]], [3, 4], [1, 2], [{"a": 1}, {"b": 1}])
    other = state_of([[0, 1], [1, 0]], [5, 6], [3, 4], [{"b": 2}, {"a": 2}])
    forth, back = (join(*pair, Organizer(0.9, None)).state for pair in ((one, other), (other, one)))
    for k, opposite in ((0, 1), (1, 0)):
        assert filled(forth, k) == pytest.approx(filled(back, opposite), rel=1e-6)
        assert forth.tokens.counts[k] == back.tokens.counts[opposite]
        assert forth.tasks[k] == back.tasks[opposite]


def test_an_unused_subspace_is_kept_and_takes_nothing_in():
    one = state_of([[1, 0], [0, 1]], [0, 4], [1, 2], [{}, {"b": 1}])
    other = state_of([[1, 0], [0, 1]], [5, 0], [3, 4], [{"a": 2}, {}])
    joined = join(one, other, Organizer(0.9, None))
    assert joined.places == [2, 3]
    assert [filled(joined.state, k) for k in range(4)] == [1, 2, 3, 4]


def test_under_fedavg_there_is_one_lora_whatever_the_tokens_say():
    one, other = state_of([[1, 0]], [1], [1], [{"a": 1}]), state_of([[0, 1]], [3], [5], [{"a": 1}])
    joined = join(one, other, SingleSubspace(0.9, None))
    assert joined.places == [0]
    assert filled(joined.state, 0) == 4


@pytest.fixture
def folders(tmp_path):
    for name, state, manifest in (("one", FIRST, MANIFEST), ("other", SECOND, OTHER_MANIFEST)):
        save_state(state, tmp_path / name, CONFIG, manifest)
    return tmp_path / "one", tmp_path / "other"


def test_the_verb_writes_a_state_folder_and_says_what_became_of_each_subspace(folders, tmp_path, capsys):
    arguments = ["join", *map(str, folders), "--out", str(tmp_path / "out")]
    args = make_parser([JOIN]).parse_args(arguments)
    assert not args.command.run(args)
    shown = capsys.readouterr().out
    assert "merged into 0 (color, hue, shade)" in shown and "kept as 2 (number)" in shown
    assert "projector is the mean" in shown
    folder = StateFolder(tmp_path / "out")
    state, manifest = folder.load(), folder.manifest
    expected = join(FIRST, SECOND, Organizer(0.9, None)).state
    for one, other in zip(state.subspaces, expected.subspaces, strict=True):
        assert all(torch.equal(one[key], value) for key, value in other.items())
    of_both = {"stages": [["color"], ["letter"], ["number"], ["letter"], ["number"]], "rounds": [2, 2, 1, 1, 3]}
    assert {key: manifest[key] for key in MANIFEST} == MANIFEST | of_both | {"scenario": manifest["scenario"]}
    scenario = Scenario.from_dict(manifest["scenario"])
    assert [list(scenario.datasets_of_stage(t)) for t in range(manifest["stage"])] == of_both["stages"]
    assert manifest["joined"] == [str(folder) for folder in folders]
    assert json.loads((tmp_path / "out" / "subspaces" / "2" / "adapter_config.json").read_text()) == {
        **CONFIG, "target_modules": ["down_proj", "up_proj"]
    }  # fmt: skip


@pytest.mark.parametrize(("threshold", "count"), [(None, 3), (1.0, 5), (0.999, 5), (0.5, 3)])
def test_the_threshold_is_the_first_runs_unless_given(folders, tmp_path, threshold, count):
    assert len(join_folders(*folders, tmp_path / "out", threshold).state.subspaces) == count


def change(folder, name, **values):
    for path in folder.glob(name):
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("name", "values", "parts"),
    [
        (
            "fcit_manifest.json",
            {"base_fingerprint": "bbbb"},
            ["base_fingerprint is 'aaaa' in the first and 'bbbb' in the second"],
        ),
        ("fcit_manifest.json", {"identity_encoder": "minilm"}, ["identity_encoder", "'minilm'"]),
        ("fcit_manifest.json", {"identity_center": False}, ["identity_center"]),
        ("fcit_manifest.json", {"method": "fedavg"}, ["method", "'fedavg'"]),
        ("fcit_manifest.json", {"shared": None}, ["projector"]),
        ("fcit_manifest.json", {"stage": 1}, ["in its stage 1, round 0, of 3 stages", "let it finish"]),
        ("subspaces/*/adapter_config.json", {"r": 8}, ["r is 2", "8 in the second"]),
        ("subspaces/*/adapter_config.json", {"lora_alpha": 8}, ["lora_alpha is 4"]),
        ("subspaces/*/adapter_config.json", {"target_modules": ["up_proj"]}, ["target_modules", "down_proj"]),
        ("fcit_manifest.json", {"subspaces": []}, ["identity_tokens.safetensors", "do not belong together"]),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(folders, tmp_path, name, values, parts):
    change(folders[1], name, **values)
    with pytest.raises(FcitError) as caught:
        join_folders(*folders, tmp_path / "out")
    assert [part for part in parts if part not in str(caught.value)] == []
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_it_is_the_models_weights_that_have_to_be_the_same_and_not_where_they_lie(folders, tmp_path):
    change(folders[1], "fcit_manifest.json", base_model="elsewhere/base")
    assert len(join_folders(*folders, tmp_path / "out").state.subspaces) == 3


def test_the_folder_that_one_stands_in_can_be_written(folders, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    args = make_parser([JOIN]).parse_args(["join", *map(str, folders), "--out", "."])
    assert not args.command.run(args)
    assert len(StateFolder(tmp_path / "out").load().subspaces) == 3


def test_a_folder_with_something_in_it_is_left_alone(folders):
    with pytest.raises(ValueError, match="is not empty"):
        join_folders(*folders, folders[0])


@pytest.mark.parametrize("again", ["run", "run/", "other/../run", "link"])
def test_a_run_is_not_joined_with_itself_by_whatever_name(again, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["fcit-cli", "join", "run", again, "--out", "out"])
    with pytest.raises(SystemExit, match="are one run"):
        main()
    assert not (tmp_path / "out").exists()
